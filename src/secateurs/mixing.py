"""Mix the units of a dim in all that carries it, and what has to be known and done before."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from secateurs.graph import Graph, Scale
from secateurs.graph.trace import state
from secateurs.types import Group, Member

Matrices = Mapping[str, Tensor]
"""Group name -> ``(b, n, n)``: row i is the new unit i in terms of the old ones; ``b`` blocks are mixed apart."""


def mix_(model: nn.Module, groups: Sequence[Group], matrices: Matrices, scaling: Collection[str] = ()) -> None:
    """Multiply what makes the units by a matrix, and what reads them by its inverse.

    Args:
        model: Changed in place.
        groups: Their dims.
        matrices: For each group.
        scaling: Scales, which are one and are left so.
    """
    tensors = dict(state(model))
    for group in groups:
        makes = matrices[group.name]
        reads = torch.linalg.inv(makes).mT
        for member in group.members:
            if member.tensor not in scaling:
                tensor = tensors[member.tensor]
                tensor.data = _mixed(tensor.data, member, (reads if member.reads else makes).to(tensor.device))


def _mixed(tensor: Tensor, member: Member, matrices: Tensor) -> Tensor:
    (axis,) = member.dims
    rows = tensor.movedim(axis, 0).to(matrices.dtype, copy=True)
    at = _places(member, len(rows), matrices.shape[:2]).to(rows.device)
    taken = rows[at]
    rows[at] = (matrices @ taken.flatten(2)).view_as(taken)
    return rows.movedim(0, axis).to(tensor.dtype).contiguous()


def _places(member: Member, size: int, shape: Sequence[int]) -> Tensor:
    """Where the units lie along an axis: ``(b, n, k)``."""
    at = torch.arange(size) if member.index is None else member.index
    return at.reshape(*shape, -1)


# ------------------------------------------------------------------------------------------------ what is known


class Gathered:
    """What the weights that read a dim multiply, and these weights.

    Args:
        group: Its dim.
        model: The network.
    """

    def __init__(self, group: Group, model: nn.Module) -> None:
        self.group = group
        self.moments: Tensor | None = None
        tensors = dict(state(model))
        self._reading = {tensors[member.tensor]: member for member in group.members if member.reads}
        self._last: Tensor | None = None

    def add(self, parameter: nn.Parameter, rows: Tensor) -> None:
        """Count the rows ``(n, features)`` that a parameter multiplies; once where several read the same."""
        member = self._reading.get(parameter)
        if member is None or _is_same(rows, self._last):
            return
        self._last = rows
        at = _places(member, rows.shape[1], self._shape).to(rows.device)
        x = rows.float()[:, at].permute(1, 2, 0, 3).flatten(2)
        sums = (x @ x.mT).to("cpu" if x.device.type == "mps" else x.device).double()
        self.moments = sums if self.moments is None else self.moments + sums

    def readers(self) -> Tensor:
        """The sum of ``W^T W``: ``(b, n, n)`` float64."""
        found = torch.zeros((), dtype=torch.float64)
        for tensor, member in self._reading.items():
            rows = member.cut(tensor.detach()).float().view(*self._shape, -1)
            sums = rows @ rows.mT
            found = sums.to("cpu" if sums.device.type == "mps" else sums.device).double() + found
        return found

    @property
    def _shape(self) -> tuple[int, int]:
        return self.group.n_blocks, self.group.block


def _is_same(rows: Tensor, last: Tensor | None) -> bool:
    return last is not None and last.shape == rows.shape and last.data_ptr() == rows.data_ptr()


# ------------------------------------------------------------------------------------------------ what is done


@torch.no_grad()
def unscale_(model: nn.Module, group: Group, found: Mapping[str, Scale], network: Graph) -> str:
    """Move all scales along a dim into the weights that read what they scale, each of which is then one.

    Args:
        model: Changed in place, also where it does not come to an end.
        group: The dim.
        found: The scales of the network.
        network: The trace of the model.

    Returns:
        What stands in the way, in words; empty where nothing does.
    """
    reads = {member.tensor: member for member in group.members if member.reads}
    looked_up = {weight.name for weight in network.weights if weight.looked_up}
    names = _names(model)
    for name in dict.fromkeys(member.tensor for member in group.members if member.tensor in found):
        scale, parameter = found[name], model.get_parameter(name)
        values = parameter + scale.offset
        if bool((values == 1).all()):
            continue
        if scale.others:
            return f"{name} scales what {scale.others[0]} reads, not weights alone"
        for weight, module in scale.weights:
            if weight not in reads:
                return f"{name} scales what {weight} reads along another dim"
            reader = next((it for it in names[weight] if it.rpartition(".")[0] == module), weight)
            if weight in looked_up and reader == weight:
                return f"{weight} is looked up, and read behind the scale {name}, and cannot be both without it"
            tensor = _untied(model, reader) if len(names[weight]) > 1 else model.get_parameter(reader)
            tensor.copy_(_scaled(tensor, reads[weight], values))
        parameter.fill_(1 - scale.offset)
    return ""


def _names(model: nn.Module) -> dict[str, list[str]]:
    """First name of a parameter -> all of its names."""
    first = {id(tensor): name for name, tensor in model.named_parameters()}
    found: dict[str, list[str]] = {name: [] for name in first.values()}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        found[first[id(tensor)]].append(name)
    return found


def _untied(model: nn.Module, name: str) -> Tensor:
    """The parameter of that name, which from here on is no other's."""
    path, _, leaf = name.rpartition(".")
    holder, shared = model.get_submodule(path), model.get_parameter(name)
    holder._parameters[leaf] = nn.Parameter(shared.detach().clone(), requires_grad=shared.requires_grad)
    return model.get_parameter(name)


def _scaled(tensor: Tensor, member: Member, values: Tensor) -> Tensor:
    (axis,) = member.dims
    along = torch.ones(tensor.shape[axis], dtype=values.dtype, device=values.device)
    at = _places(member, len(along), (1, len(values)))[0].to(values.device)
    along[at] = values[:, None].expand(at.shape)
    return tensor * along.view([-1 if d == axis else 1 for d in range(tensor.dim())])
