"""Facts of units as a whole: how much a block changes what it is given, and the network without a unit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from secateurs.types import Group, Member, SecateursError


class Influence:
    """While open, sums over positions the cosine between what each block is given and what it hands on.

    Args:
        model: The network.
        groups: Of layers; the others have no influence.

    Raises:
        SecateursError: A group is of branches, whose module sees no stream.
    """

    def __init__(self, model: nn.Module, groups: Iterable[Group]) -> None:
        self._groups = [group for group in groups if group.residuals]
        for group in self._groups:
            if any(residual.of == "branch" for residual in group.residuals):
                raise SecateursError(f"{group.name}: influence is of whole blocks; use layer with of: block")
        self._model = model
        self._sums: dict[str, tuple[float, int]] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Influence:
        names = {residual.name for group in self._groups for residual in group.residuals}
        for name in names:
            hook = self._hook(name)
            self._handles.append(self._model.get_submodule(name).register_forward_hook(hook, with_kwargs=True))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            made = next((x for x in tree_leaves(out) if _is_stream(x)), None)
            given = next((x for x in tree_leaves((args, kwargs)) if _is_stream(x) and _fits(x, made)), None)
            if made is None or given is None:
                raise SecateursError(f"{name} hands on nothing of the shape of what it is given: it has no influence")
            cosine = torch.cosine_similarity(given.detach().float(), made.detach().float(), dim=-1)
            total, number = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + float(cosine.double().sum()), number + cosine.numel()

        return note

    def found(self) -> Mapping[str, Tensor]:
        """Group name -> ``(n_units,)``, one minus the mean cosine; 0 for a block that is not run."""
        return {g.name: torch.tensor([self._of(residual.name) for residual in g.residuals]) for g in self._groups}

    def _of(self, name: str) -> float:
        total, number = self._sums.get(name, (1.0, 1))
        return max(0.0, 1 - total / number)


def _is_stream(x: object) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 1


def _fits(x: Tensor, made: Tensor | None) -> bool:
    return made is not None and x.shape == made.shape


@contextmanager
def without(tensors: Mapping[str, Tensor], group: Group, unit: int) -> Iterator[bool]:
    """The network with one unit zeroed in every member; all values come back.

    Args:
        tensors: Its parameters and buffers, by name; those of a layer that is not run are missing.
        group: The unit's.
        unit: Its number.

    Yields:
        Whether anything was zeroed that was not zero before.

    Raises:
        SecateursError: The network has lost some of the units.
    """
    keep = torch.arange(group.n_units) != unit
    held: dict[Tensor, Tensor] = {}
    changed = False
    try:
        with torch.no_grad():
            for member in group.members:
                tensor = tensors.get(member.tensor)
                if tensor is not None and member.zeroed and member.unit in (None, unit):
                    _check_whole(group, member, tensor)
                    gone = ~member.mask(keep.to(tensor.device), tensor.shape)
                    held.setdefault(tensor, tensor.detach().clone())
                    changed = changed or bool((tensor * gone).any())
                    tensor.masked_fill_(gone, 0)
        yield changed
    finally:
        with torch.no_grad():
            for tensor, values in held.items():
                tensor.copy_(values)


def _check_whole(group: Group, member: Member, tensor: Tensor) -> None:
    most = group.n_units if member.index is None else int(member.index.max()) + 1
    if group.dims and member.unit is None and prod(tensor.shape[dim] for dim in member.dims) < most:
        raise SecateursError(
            f"{group.name}: the loss without single units cannot be taken where a width has gone already; "
            "use one round, or a criterion other than loss_increase"
        )
