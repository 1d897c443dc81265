"""Run a network with parts of its parameters read as zero, and in double precision, so that rounding hides nothing.

A mode changes every tensor as it is read, operator by operator: neither the network nor its parameters are copied, and
a precision that is written into the code (a norm taken in single, say) is overruled as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from secateurs.graph.trace import forward, state
from secateurs.types import Inputs

WIDE = MappingProxyType(
    {dtype: torch.float64 for dtype in (torch.float32, torch.float16, torch.bfloat16)}
    | {dtype: torch.complex128 for dtype in (torch.complex64, torch.complex32)}
)
"""Precision -> the one it is computed in."""

HALF = frozenset({torch.float16, torch.bfloat16, torch.complex32})

Masks = Mapping[Tensor, Tensor]
"""Parameter or buffer -> bool mask that broadcasts to it, True = kept."""

Pass = Callable[[nn.Module, Inputs], tuple[Tensor, ...]]
"""A forward pass: network, inputs -> the tensors that it returns."""


class UnfitError(Exception):
    """The network writes into its own parameters or buffers, which are read in copies here; or it rounds to half."""


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
        with Reading(held, WIDE) as reading:
            outputs = run(model, wide)
        return tuple(map(reading.read, outputs))
    finally:
        for tensor, data in memory:
            tensor.data = data


def forward_single(
    model: nn.Module, inputs: Inputs, masks: Masks | None = None, run: Pass = forward
) -> tuple[Tensor, ...]:
    """One forward pass in single precision, for a network that has no other; it is left as it was.

    Args:
        model: In single precision.
        inputs: Arguments of its forward.
        masks: What is read as zero where the mask is False.
        run: The forward pass itself.

    Raises:
        UnfitError: Something of it is in half precision, or it writes into a parameter that is masked.
    """
    if any(tensor.dtype in HALF for _, tensor in state(model)):
        raise UnfitError
    masks = masks or {}
    own = [(tensor, tensor.data) for _, tensor in state(model) if not isinstance(tensor, nn.Parameter)]
    held = {id(tensor): (tensor, mask) for tensor, mask in masks.items() if isinstance(tensor, nn.Parameter)}
    try:
        for tensor, data in own:
            tensor.data = data * masks[tensor] if tensor in masks else data.clone()
        if not held:
            return run(model, inputs)
        with Reading(held, {}) as reading:
            outputs = run(model, inputs)
        return tuple(map(reading.read, outputs))
    finally:
        for tensor, data in own:
            tensor.data = data


Held = tuple[Tensor, Tensor | None]
"""What a parameter or buffer holds, and its mask."""


class Reading(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Reads parameters through their masks; widens what enters an operator, and what it is told to make.

    A view of a parameter stays one, and is read so too, when an operator computes with it. What is read lies in memory
    that the next operator is lent again.

    Args:
        held: By the id of a parameter or buffer: what it holds, and its mask.
        wide: Precision -> the one it is computed in. Empty: all in its own, if none is half.
    """

    def __init__(self, held: Mapping[int, Held], wide: Mapping[torch.dtype, torch.dtype]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wide = wide
        self.held = {at: (x, mask if mask is None else self._factors(x, mask)) for at, (x, mask) in held.items()}
        self.writes: dict[Any, frozenset[str]] = {}
        self.views: MutableMapping[Tensor, Held] = WeakTensorKeyDictionary()
        self.memory: list[Tensor] = []
        self.lent = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.embedding.default:
            return self._rows(*args[:2])
        kwargs = kwargs or {}
        if (
            func.is_view
            and (held := self._held(args[0]))
            and (seen := self._viewed(func, held, args, kwargs)) is not None
        ):
            return seen
        written = self._written(func)
        if written:
            names = [argument.name for argument in func._schema.arguments]
            args = tuple(self._target(x) if n in written else self.read(x) for n, x in zip(names, args, strict=False))
        else:
            args = tuple(self.read(x) for x in args)
        kwargs = {n: self._target(x) if n in written else self.read(x) for n, x in kwargs.items()}
        out = func(*args, **kwargs)
        if self.lent:
            self._taken_back(out)
        return self._widened(out)

    def read(self, x: Any) -> Any:
        """What an operator gets to see."""
        if isinstance(x, Tensor):
            held = self._held(x)
            return self._widened(x) if held is None else self._masked(*held)
        if isinstance(x, torch.dtype):
            return self.wide.get(x, x)
        if isinstance(x, list | tuple):
            return [self.read(item) for item in x]
        return x

    def _factors(self, data: Tensor, mask: Tensor) -> Tensor:
        """What to multiply by: bytes where there is one for each number, which are read some five times faster."""
        whole = data.is_floating_point() and mask.numel() == data.numel()
        return mask.view(torch.uint8) if whole else mask.to(self._dtype(data))

    def _masked(self, data: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return data if data.dtype == self._dtype(data) else self._lend(data).copy_(data)
        return torch.mul(data, mask, out=self._lend(data))

    def _dtype(self, x: Tensor) -> torch.dtype:
        return self.wide.get(x.dtype, x.dtype)

    def _held(self, x: Tensor) -> Held | None:
        return self.held.get(id(x)) or self.views.get(x)

    def _viewed(self, func: Any, held: Held, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A view, or several, of a parameter; None where it is none of its memory, or the mask has no such view."""
        data, mask = held
        try:
            seen = func(*args, **kwargs)
            views, parts = _listed(seen), _listed(func(data, *args[1:], **kwargs))
            masks = [None] * len(parts) if mask is None else _listed(func(mask.expand_as(data), *args[1:], **kwargs))
        except RuntimeError:
            return None
        if any(x.dtype != args[0].dtype for x in views) or not all(_shared(x, data) for x in parts):
            return None
        self.views.update(zip(views, zip(parts, masks, strict=True), strict=True))
        return seen

    def _lend(self, data: Tensor) -> Tensor:
        """Memory for what is computed with in place of a tensor, with its strides."""
        dtype = self._dtype(data)
        if self.lent == len(self.memory):
            self.memory.append(torch.empty(0, dtype=torch.uint8, device=data.device))
        size = data.numel() * dtype.itemsize
        if self.memory[self.lent].numel() < size or self.memory[self.lent].device != data.device:
            self.memory[self.lent] = torch.empty(size, dtype=torch.uint8, device=data.device)
        self.lent += 1
        strides = torch.empty_like(data, device="meta").stride()
        return self.memory[self.lent - 1][:size].view(dtype).as_strided(data.shape, strides)

    def _taken_back(self, out: Any) -> None:
        """What was lent is free again, unless it is in a result."""
        tensors = [x for x in _listed(out) if isinstance(x, Tensor)]
        self.memory = [it for it in self.memory if not any(_shared(it, x) for x in tensors)]
        self.lent = 0

    def _written(self, func: Any) -> frozenset[str]:
        """The arguments that an operator writes into."""
        if func not in self.writes:
            held = func._schema.arguments if func._schema.is_mutable else ()
            self.writes[func] = frozenset(x.name for x in held if x.alias_info is not None and x.alias_info.is_write)
        return self.writes[func]

    def _target(self, x: Any) -> Any:
        if isinstance(x, Tensor) and id(x if x._base is None else x._base) in self.held:
            raise UnfitError
        return x

    def _rows(self, table: Tensor, index: Tensor) -> Tensor:
        """Rows by number: only those that are picked are widened."""
        data, mask = self._held(table) or (table, None)
        rows: Tensor = self._widened(data[index])
        return rows if mask is None else rows * mask.expand(data.shape)[index]

    def _widened(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            if x.dtype in HALF and not self.wide:
                raise UnfitError
            return x.to(self.wide[x.dtype]) if x.dtype in self.wide else x
        if isinstance(x, list | tuple):
            return type(x)(self._widened(item) for item in x)
        return x


def _shared(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _listed(x: Any) -> list[Any]:
    return list(x) if isinstance(x, list | tuple) else [x]
