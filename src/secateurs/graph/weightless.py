"""Run a network without weights: what is known is computed, of the rest only the shapes.

The inputs are known, and what code makes from nothing (ranges, masks); the parameters and buffers of a network built
under ``torch.device("meta")`` are not, nor is anything computed from one of them. Nothing is guessed: code that reads a
number which is not known is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from secateurs.types import SecateursError

DEVICE = torch.device("cpu")
"""Where code finds the tensors that are not known: it takes the ways there that it takes with weights."""

NARROW = frozenset({"aten._grouped_mm"})
"""Operators that compute in any precision, and whose shapes torch tells in half precision alone."""

UNKNOWN = (
    fake_tensor.DataDependentOutputException,
    fake_tensor.DynamicOutputShapeException,
    fake_tensor.UnsupportedFakeTensorException,
    fake_tensor.UnsupportedOperatorException,
)
"""What torch raises where shapes are not enough."""


class UnknownValueError(SecateursError):
    """The forward pass reads a number that is not known without weights."""


def has_values(model: nn.Module) -> bool:
    """Whether every parameter and buffer of a network holds values; on the meta device they have shapes alone."""
    return not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


@contextmanager
def weightless(model: nn.Module) -> Iterator[None]:
    """While open, a network on the meta device runs on known inputs; one with weights is left as it is.

    Args:
        model: Any network; afterwards it is as it was.

    Raises:
        UnknownValueError: Code inside reads a number that is not known.
    """
    held: list[dict[str, Any]] = [d for module in model.modules() for d in (module._parameters, module._buffers)]
    before = [(values, name, x) for values in held for name, x in values.items() if x is not None and x.is_meta]
    if not before:
        yield
        return
    mode = Weightless()
    shapes = {id(x): mode.shape_of(x) for _, _, x in before}  # a tied parameter stays one
    try:
        for values, name, x in before:
            values[name] = shapes[id(x)]
        with mode, _quiet(), _movable(model):
            yield
    finally:
        for values, name, x in before:
            values[name] = x


@contextmanager
def _movable(model: nn.Module) -> Iterator[None]:
    """While open, ``Module.to`` in a forward pass moves parameters without values in place, as it moves real ones.

    Torch would swap such a parameter for another, which it refuses once anybody has a weak reference to it.
    """

    def moving(module: nn.Module) -> Callable[..., nn.Module]:
        def apply(fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
            for child in module.children() if recurse else ():
                child._apply(fn)  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for parameter in module.parameters(recurse=False):
                    parameter.data = fn(parameter)
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else fn(buffer)
            return module

        return apply

    modules = list(model.modules())
    for module in modules:
        vars(module)["_apply"] = moving(module)
    try:
        yield
    finally:
        for module in modules:
            vars(module).pop("_apply", None)


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch logs of a shape that it refuses is in the error."""
    noise = logging.getLogger("torch._subclasses.fake_tensor")
    level = noise.level
    noise.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        noise.setLevel(level)


class Weightless(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """An operator on known tensors alone computes; one on an unknown tensor gives the shapes of its results."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes = FakeTensorMode()
        self.lost: dict[int, torch.UntypedStorage] = {}  # memory that something unknown was written into

    def shape_of(self, tensor: Tensor) -> Tensor:
        """A tensor of the same shape without values."""
        shape: Any = FakeTensor(self.shapes, tensor.detach().to("meta"), DEVICE)
        return nn.Parameter(shape, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else shape

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        unknown = any(isinstance(t, FakeTensor) for t in tensors)
        if not unknown and (func.is_view or not any(map(self._is_lost, tensors))):
            return func(*args, **kwargs)
        shapes = {id(t): t if isinstance(t, FakeTensor) else self.shape_of(t) for t in tensors}
        args, kwargs = tree_map(lambda x: shapes[id(x)] if isinstance(x, Tensor) else x, (args, kwargs))
        try:
            with self.shapes:
                out = _narrow(func, args, kwargs) if str(func.overloadpacket) in NARROW else func(*args, **kwargs)
        except UNKNOWN as error:
            raise UnknownValueError(_refusal(str(func.overloadpacket))) from error
        given = {id(shapes[id(t)]): t for t in tensors}
        out = tree_map(lambda x: given.get(id(x), x) if isinstance(x, Tensor) else x, out)
        for written in (x for x in tree_leaves(out) if isinstance(x, Tensor) and not isinstance(x, FakeTensor)):
            storage = written.untyped_storage()
            self.lost[storage._cdata] = storage
        return out

    def _is_lost(self, tensor: Tensor) -> bool:
        return bool(self.lost) and tensor.untyped_storage()._cdata in self.lost


def _narrow(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The shapes of an operator, asked for in half precision; the result has the precision of the first argument."""

    def half(x: Any) -> Any:
        return x.to(torch.bfloat16) if isinstance(x, Tensor) and x.is_floating_point() else x

    return func(*map(half, args), **tree_map(half, kwargs)).to(args[0].dtype)


def _refusal(operator: str) -> str:
    return (
        f"{operator} reads values, and a network on the meta device has none; trace it with weights, random ones will "
        "do, or trace a smaller network of the same kind"
    )
