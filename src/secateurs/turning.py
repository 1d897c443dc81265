"""Turn dims of a network to another basis, in which it computes what it did: then it is pruned there.

What a dim carries may be mixed where nothing but weights makes it and reads it: the makers are multiplied by a matrix,
the readers by its inverse. Across a norm that is a rotation, and the scale of the norm has to be moved into the weights
that read it first (Ashkboos et al. 2024). Which dims that is true of is not known from rules: they are turned, and a
forward pass shows whether the network computes the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn

from secateurs import evidence
from secateurs.graph import Graph, recorded, scales, trace
from secateurs.graph.agreement import Reference, reference
from secateurs.graph.network import around
from secateurs.graph.trace import state
from secateurs.mixing import Gathered, Matrices, mix_, unscale_
from secateurs.moments import Products
from secateurs.repair import copied
from secateurs.trials import beside, nothing
from secateurs.types import Basis, Group, SecateursError, Structure, Task

logger = logging.getLogger("secateurs.turning")

ROLES = frozenset({"width", "head_dim"})
"""The dims that are tried: in most networks nothing but products lies between their makers and readers."""

SAME = 1e-3
"""Largest accepted difference of outputs, relative to the largest one: a wrong turn changes all of them altogether."""


@dataclass
class Turning:
    """A network on its way to another basis.

    Args:
        model: Its own; changed in place.
        network: The trace of it.
        task: Calibration data.
        structures: What can go: their dims are turned.
        scaling: The names of the scales of its norms.
        reasons: Name of a dim -> why it keeps its units.
    """

    model: nn.Module
    network: Graph
    task: Task
    structures: Sequence[Structure]
    scaling: frozenset[str] = frozenset()
    reasons: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Run it as it is."""
        self.wanted: Reference = reference(self.model, self.task.example_inputs)

    def groups(self) -> Iterator[Group]:
        """What can be tried."""
        for group in (group for structure in self.structures for group in structure(self.network)):
            dim = group.dims[-1] if group.dims else ""
            if not dim or self.network.dims[dim].role not in ROLES or dim in self.reasons:
                continue
            reason = self._refusal(group)
            if reason:
                self.reasons[dim] = reason
            else:
                yield self._apart(dim)

    def _apart(self, dim: str) -> Group:
        """The units of a dim, those inside each position of the dims that all who carry it have around it apart."""
        axes = [around(self.network.tensors[tensor][axis], dim) for tensor, axis in self.network.carriers[dim]]
        dims = [name for name in dict.fromkeys(axes[0]) if all(name in axis for axis in axes)] + [dim]
        sizes = [self.network.dims[name].size for name in dims]
        return Group(dim, prod(sizes), self.network.members(*dims), sizes[-1], tuple(dims))

    def _refusal(self, group: Group) -> str:
        """Why it cannot be turned, as far as can be told by looking at it."""
        names = {member.tensor for member in group.members}
        fixed = sorted(names - self.network.trainable)
        if fixed:
            return f"the buffer {fixed[0]} carries it"
        if not any(member.reads for member in group.members):
            return "no weight reads it"
        if names & self.scaling and not self.is_rotated(group):
            return f"{min(names & self.scaling)} scales it inside of a larger dim"
        return "" if any(self.makes(member.tensor, member.reads) for member in group.members) else "no weight makes it"

    def makes(self, tensor: str, reads: bool) -> bool:
        """Whether a member makes what the dim carries."""
        return tensor not in self.scaling and not reads

    def is_rotated(self, group: Group) -> bool:
        """Whether norms are taken over a dim."""
        return self.network.dims[group.dims[-1]].flagged is not None

    def unscale(self) -> None:
        """Move the scales of norms into the weights that read them; a tied weight is untied where it must be."""
        found = scales(self.model, self.task.example_inputs)
        self.scaling = frozenset(found)
        for group in list(self.groups()):
            tried = copied(self.model)
            problem = unscale_(tried, group, found, self.network) or self.differs(tried, [group])
            if problem:
                self.reasons[group.dims[-1]] = problem
            else:
                self.model = tried
        self.network = trace(self.model, self.task.example_inputs)

    def matrices(self, basis: Basis, batches: int) -> dict[str, Tensor]:
        """What each dim is to be multiplied by: one pass over the calibration data."""
        found = {group.name: Gathered(group, self.model) for group in self.groups()}

        def meet(parameter: nn.Parameter, rows: Tensor) -> None:
            for gathered in found.values():
                gathered.add(parameter, rows)

        if found:
            with evidence.undisturbed(self.model), torch.no_grad():
                for _, batch in evidence.calibration(self.task, batches, "basis"):
                    with Products(self.model, meet):
                        self.task.loss(self.model, batch)
        unread = [gathered.group.dims[-1] for gathered in found.values() if gathered.moments is None]
        self.reasons |= dict.fromkeys(unread, "no matrix product reads it")
        return {
            name: basis(it.moments, it.readers(), self.is_rotated(it.group))
            for name, it in found.items()
            if it.moments is not None
        }

    def turn(self, matrices: Matrices) -> None:
        """Turn all dims beside which the network computes the same."""

        def tried(some: Sequence[Group]) -> nn.Module:
            model = copied(self.model)
            mix_(model, some, matrices, self.scaling)
            return model

        def problem(some: Sequence[Group]) -> str:
            return self.differs(tried(some), some)

        found = beside([group for group in self.groups() if group.name in matrices], problem, self.reasons)
        for name, reason in self.reasons.items():
            logger.warning("%s keeps its units: %s", name, reason)
        if not found:
            if not any(structure(self.network) for structure in self.structures):
                raise nothing(self.structures, self.network)
            said = "; ".join(f"{name}: {reason}" for name, reason in list(self.reasons.items())[:3])
            none = f"the structures prune no dim of {' or '.join(sorted(ROLES))}"
            raise SecateursError(f"nothing can be turned to another basis ({said or none})")
        self.model = tried(found)

    def differs(self, model: nn.Module, some: Sequence[Group]) -> str:
        """Whether a network in which these dims were turned computes something else, in words; empty where not."""
        if self.wanted.compared(model).size <= SAME:
            return ""
        flagged = self.network.dims[some[0].dims[-1]].flagged
        return f"turned, the network computes something else{f'; {flagged}' if flagged else ''}"


def turned(
    model: nn.Module, task: Task, basis: Basis | None, structures: Sequence[Structure], batches: int, network: Graph
) -> tuple[nn.Module, Graph]:
    """A network that computes the same, in another basis of the dims that structures can shrink, and its trace.

    Weights of half precision are turned in single precision, and rounded at the end. Which dims keep their units, and
    why, is logged. It is the same each time: what was pruned in a basis can be gone on with.

    Args:
        model: The dense network; left alone.
        task: Calibration data.
        basis: To which units; None: it is given back as it is.
        structures: What can go.
        batches: Batches of the train split that are looked at.
        network: The trace of ``model``.

    Raises:
        SecateursError: Nothing can be turned; reasons are in the line.
    """
    if basis is None:
        return model, network
    wide = copied(model)
    if any(tensor.dtype in (torch.float16, torch.bfloat16) for _, tensor in state(wide)):
        wide = wide.float()
    turning = Turning(wide, network, task, structures)
    turning.unscale()
    turning.turn(turning.matrices(basis, batches))
    held = {name: tensor.dtype for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    for name, tensor in state(turning.model):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(held.get(name, next(model.parameters()).dtype))
    if network.recording is None:
        return turning.model, turning.network
    return turning.model, recorded(turning.network, turning.model, task.example_inputs)
