"""Stacks of matrices that a module multiplies one after the other, in a loop over experts: seen in a run of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

Met = list[tuple[str, int, Tensor]]
"""Name of a stack, number of a matrix, and what it is multiplied by: ``(tokens, i)``."""


def loop_of(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], stacks: Mapping[str, Tensor]) -> Met:
    """What each matrix of the stacks of a module is multiplied by, in a run that nobody else sees the result of.

    Args:
        module: Whose forward is run.
        args: Of its forward.
        kwargs: The same.
        stacks: By name, ``(n, ...)``.

    Returns:
        Empty where one of them is read in another way, or a matrix twice.
    """
    look = _Look(stacks)
    try:
        with torch.no_grad(), look:
            module.forward(*args, **kwargs)
    except _OtherwiseError:
        return []
    once = len({(name, i) for name, i, _ in look.met}) == len(look.met)
    return look.met if once and {name for name, _, _ in look.met} == set(stacks) else []


class _OtherwiseError(Exception):
    """A stack is read in another way."""


class _Look(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's metaclass hook has no annotations
    def __init__(self, stacks: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.met: Met = []
        self._stacks = {it.untyped_storage().data_ptr(): (name, it) for name, it in stacks.items()}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        operands = () if func.is_view else (it for it in args if isinstance(it, Tensor))
        if any(it.untyped_storage().data_ptr() in self._stacks for it in operands):
            left, right = args[-2:] if func.overloadpacket in (aten.mm, aten.addmm) else (None, None)
            if right is None or not (self._is_met(right, left) or self._is_met(left.mT, right.mT)):
                raise _OtherwiseError
        return func(*args, **(kwargs or {}))

    def _is_met(self, matrix: Tensor, x: Tensor) -> bool:
        """Whether a matrix is one of a stack, which is noted."""
        name, stack = self._stacks.get(matrix.untyped_storage().data_ptr(), ("", matrix))
        number, rest = divmod(int(matrix.storage_offset() - stack.storage_offset()), stack.stride(0) or 1)
        if not name or rest or matrix.numel() != stack[0].numel():
            return False
        self.met.append((name, number, x))
        return True
