"""Stacks of matrices in one tensor, as the experts of a layer are kept: seen just before they are multiplied.

A whole stack is multiplied by one operator in the midst of its module's forward, where no hook is called. So the
parameter is replaced, while one looks, by a tensor that tells of the product before it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from secateurs.types import Group, Member

BATCHED = frozenset({"bmm", "matmul", "__matmul__", "baddbmm"})
"""Products of a batch of matrices with the stack."""

Met = Callable[[str, Tensor, Tensor | None], object]
"""Told, before the stack of this name is multiplied, what by: as ``rows_of`` takes it."""


def rows_of(x: Tensor, ends: Tensor | None) -> Sequence[Tensor]:
    """What each matrix of a stack is multiplied by: ``(tokens, i)`` for each.

    Args:
        x: ``(tokens, i)``, in stretches; or ``(n, tokens, i)``, of which rows of zeros are no tokens.
        ends: ``(n,)``, where the stretch of each ends; None where ``x`` has an axis for them.
    """
    if ends is None:
        return [rows[rows.any(dim=-1)] for rows in x]
    edges = [0, *ends.tolist()]
    return [x[first:last] for first, last in pairwise(edges)]


def matrices_of(group: Group, number: int) -> Iterator[Group]:
    """A group of the units of a stack, as one for each matrix, in which they compete at most."""
    (member,), n_units = group.members, group.n_units // number
    dims = tuple(axis - 1 for axis in member.dims[1:])
    places = [None] * number if member.index is None else member.index.chunk(number)
    for i, index in enumerate(places):
        mine = None if index is None else index - i * index.numel()
        members = (Member(member.tensor, dims, mine),)
        yield Group(f"{group.name}[{i}]", n_units, members, min(group.block, n_units), grid=group.grid)


class Watch:
    """Stacks that are watched.

    Args:
        stacks: Name of a parameter -> the module that holds it.
        met: Called before a product.
    """

    def __init__(self, stacks: Mapping[str, nn.Module], met: Met) -> None:
        self.met = met
        self.own = {name: module.get_parameter(name.rpartition(".")[2]) for name, module in stacks.items()}
        self._holders = stacks

    def look(self, name: str) -> None:
        """Watch this one from here on."""
        watching = self.own[name].detach().as_subclass(_Watched)
        watching.stack_name, watching.watch = name, self
        self._holders[name]._parameters[name.rpartition(".")[2]] = watching  # type: ignore[assignment]

    def look_away(self, name: str) -> None:
        """The parameter itself is in its place again."""
        self._holders[name]._parameters[name.rpartition(".")[2]] = self.own[name]


@contextmanager
def watched(stacks: Mapping[str, nn.Module], met: Met) -> Iterator[Watch]:
    """Watch stacks while the body runs.

    Args:
        stacks: Name of a parameter -> the module that holds it.
        met: Called before a product with the whole of it. What it returns, where that is a tensor, is laid out like the
            parameter and is multiplied by instead.
    """
    watch = Watch(stacks, met)
    try:
        for name in stacks:
            watch.look(name)
        yield watch
    finally:
        for name in stacks:
            watch.look_away(name)


class _Watched(Tensor):
    """A stack, or a view of it."""

    _is_param = True  # what torch asks of a tensor in a parameter's place
    stack_name: str
    watch: Watch

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        position = next((i for i, it in enumerate(args) if isinstance(it, _Watched)), None)
        if position is None:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        mine = args[position]
        given = _multiplied(func, args, kwargs, mine)
        instead = None if given is None else mine.watch.met(mine.stack_name, *given)
        with torch._C.DisableTorchFunctionSubclass():
            if isinstance(instead, Tensor):
                laid = instead.as_strided(mine.shape, mine.stride(), mine.storage_offset())
                args = (*args[:position], laid, *args[position + 1 :])
            out = func(*args, **kwargs)
            is_view = isinstance(out, Tensor) and out.untyped_storage().data_ptr() == mine.untyped_storage().data_ptr()
            if not is_view or isinstance(out, _Watched):
                return out
            view = out.as_subclass(_Watched)
            view.stack_name, view.watch = mine.stack_name, mine.watch
            return view


def _multiplied(func: Any, args: Any, kwargs: Any, stack: _Watched) -> tuple[Tensor, Tensor | None] | None:
    """What all matrices of a stack are multiplied by, and where stretches end; None where this is no such product."""
    with torch._C.DisableTorchFunctionSubclass():
        tensors = [it for it in (*args, *kwargs.values()) if isinstance(it, Tensor)]
        own = stack.watch.own[stack.stack_name]
        whole = stack.dim() == 3 and stack.numel() == own.numel() and len(stack) == len(own)
        if not whole or stack.stride(0) != own.stride(0) or len(tensors) < 2:
            return None
        name = getattr(func, "__name__", "")
        if name in BATCHED:
            x = _beside(stack, *tensors[-2:])
        else:
            x = _by_letters(args[0], stack, *tensors) if name == "einsum" and len(tensors) == 2 else None
        if x is not None:
            return x, None
        rows, others = tensors[0], tensors[2:]
        stretches = tensors[1] is stack and rows.dim() == 2 and rows.shape[1] == stack.shape[1] and len(others) == 1
        return (rows, others[0]) if stretches and others[0].shape == stack.shape[:1] else None


def _beside(stack: Tensor, left: Tensor, right: Tensor) -> Tensor | None:
    """What a stack is multiplied by in products of matrices, features last: ``(n, tokens, i)``."""
    if left.dim() < 2 or right.dim() < 2:
        return None
    x, features = (left, stack.shape[1]) if right is stack else (right.mT, stack.shape[2])
    if x.shape[-1] != features or x.shape[:-2] not in ((), (1,), stack.shape[:1]):
        return None
    return x if len(x) == len(stack) and x.dim() == 3 else x.expand(len(stack), *x.shape[-2:])


def _by_letters(equation: object, stack: Tensor, left: Tensor, right: Tensor) -> Tensor | None:
    """The same in Einstein's notation, where the first letter of the stack is one of the other and of the result."""
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        return None
    sides, out = equation.replace(" ", "").split("->")
    one, other = sides.split(",")
    (mine, theirs), x = ((one, other), right) if left is stack else ((other, one), left)
    each, summed = mine[0], [letter for letter in mine[1:] if letter in theirs and letter not in out]
    letters = sorted({*mine, *theirs} - {*summed})
    if len(summed) != 1 or each not in theirs or sorted(out) != letters or len({*theirs}) != len(theirs):
        return None
    order = [each, *(letter for letter in theirs if letter not in (each, *summed)), *summed]
    laid = x.permute([theirs.index(letter) for letter in order])
    return laid.reshape(len(stack), -1, laid.shape[-1])
