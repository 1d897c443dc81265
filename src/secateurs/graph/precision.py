"""Run a network in double precision, whatever its own, so that rounding hides nothing.

A mode reads every floating tensor in double precision, operator by operator: neither the network nor its parameters are
copied, and a precision that is written into the code (a norm taken in single, say) is overruled as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from secateurs.graph.trace import forward, state
from secateurs.types import Inputs

WIDE = MappingProxyType(
    {dtype: torch.float64 for dtype in (torch.float32, torch.float16, torch.bfloat16)}
    | {dtype: torch.complex128 for dtype in (torch.complex64, torch.complex32)}
)
"""Precision -> the one it is computed in."""

Masks = Mapping[Tensor, Tensor]
"""Parameter or buffer -> bool mask that broadcasts to it, True = kept."""

Pass = Callable[[nn.Module, Inputs], tuple[Tensor, ...]]
"""A forward pass: network, inputs -> the tensors that it returns."""


class UnfitError(Exception):
    """The network writes into its own parameters or buffers, which are read in copies here."""


def forward_double(
    model: nn.Module, inputs: Inputs, masks: Masks | None = None, run: Pass = forward
) -> tuple[Tensor, ...]:
    """One forward pass in which every operator computes in double precision; the model is left as it was.

    Args:
        model: In any precision.
        inputs: Arguments of its forward.
        masks: What is read as zero where the mask is False.
        run: The forward pass itself.

    Raises:
        UnfitError: The network writes into its own floating parameters or buffers.
        Exception: Whatever its operators raise on double precision.
    """
    memory = [(tensor, tensor.data) for _, tensor in state(model) if tensor.dtype in WIDE or tensor in (masks or {})]
    held = {id(tensor): (data, (masks or {}).get(tensor)) for tensor, data in memory}
    wide = tree_map(lambda x: x.to(WIDE.get(x.dtype, x.dtype)) if isinstance(x, Tensor) else x, inputs)
    try:
        for tensor, data in memory:  # they look double to whoever asks; memory never touched is never taken
            tensor.data = torch.empty_like(data, dtype=WIDE.get(data.dtype, data.dtype))
        with Double(held):
            return run(model, wide)
    finally:
        for tensor, data in memory:
            tensor.data = data


class Double(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Widens what enters an operator, and what it is told to make; reads parameters through their masks.

    Args:
        held: By the id of a parameter or buffer: what it holds, and its mask.
    """

    def __init__(self, held: Mapping[int, tuple[Tensor, Tensor | None]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = held
        self.writes: dict[Any, frozenset[str]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.embedding.default:
            return self._rows(*args[:2])
        written = self._written(func)
        if written:
            names = [argument.name for argument in func._schema.arguments]
            args = tuple(self._target(x) if n in written else self._read(x) for n, x in zip(names, args, strict=False))
        else:
            args = tuple(self._read(x) for x in args)
        kwargs = {n: self._target(x) if n in written else self._read(x) for n, x in (kwargs or {}).items()}
        return _widened(func(*args, **kwargs))

    def _written(self, func: Any) -> frozenset[str]:
        """The arguments that an operator writes into."""
        if func not in self.writes:
            held = func._schema.arguments if func._schema.is_mutable else ()
            self.writes[func] = frozenset(x.name for x in held if x.alias_info is not None and x.alias_info.is_write)
        return self.writes[func]

    def _read(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            data, mask = self.held.get(id(x), (x, None))
            return _widened(data) if mask is None else _widened(data) * mask
        if isinstance(x, torch.dtype):
            return WIDE.get(x, x)
        if isinstance(x, list | tuple):
            return [self._read(item) for item in x]
        return x

    def _target(self, x: Any) -> Any:
        if isinstance(x, Tensor) and id(x if x._base is None else x._base) in self.held:
            raise UnfitError
        return x

    def _rows(self, table: Tensor, index: Tensor) -> Tensor:
        """Rows by number: only those that are picked are widened."""
        data, mask = self.held.get(id(table), (table, None))
        rows: Tensor = _widened(data[index])
        return rows if mask is None else rows * mask.expand(data.shape)[index]


def _widened(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x.to(WIDE[x.dtype]) if x.dtype in WIDE else x
    if isinstance(x, list | tuple):
        return type(x)(_widened(item) for item in x)
    return x
