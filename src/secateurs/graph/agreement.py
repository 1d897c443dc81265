"""Whether two networks compute the same: what a proof by a forward pass compares, and in which precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from secateurs.graph.precision import Masks, Pass, forward_double
from secateurs.graph.trace import forward, state
from secateurs.types import Group, Inputs

TOLERANCE = 1e-9
"""Largest accepted difference between masked and shrunk outputs in double precision, relative to the largest output."""

COARSE = 2e-5
"""The same in single precision, where rounding stays some ten times below."""

Way = Callable[[nn.Module, Inputs, Masks, Pass], tuple[Tensor, ...]]
"""How a network is run in a precision: network, inputs, what of it is read as zero, the forward pass -> outputs."""


@dataclass(frozen=True)
class Reference:
    """What a network computes, and how it was run.

    A wrong repair can come close (three heads of one for one head of three, where attention is nearly even), so it is
    run in double precision; where it cannot be, in single where it computes in half, and at last in its own.

    Args:
        inputs: Of the forward pass.
        run: How it was run; others are run alike.
        tolerance: Accepted difference, relative to the largest output.
        outputs: What it returned.
    """

    inputs: Inputs
    run: Way
    tolerance: float
    outputs: tuple[Tensor, ...]

    def difference(self, model: nn.Module) -> str:
        """What is wrong with another network's outputs, in words; empty where nothing is."""
        return _difference(lambda: self.run(model, self.inputs, {}, forward), self.outputs, self.tolerance)


def reference(model: nn.Module, inputs: Inputs, run: Pass = forward, masks: Masks | None = None) -> Reference:
    """Run a network in the best precision that it takes; it is left as it was.

    Args:
        model: Any network.
        inputs: Of its forward.
        run: The forward pass; others, that are compared with it, take a plain one.
        masks: What of its parameters and buffers is read as zero.
    """
    *better, (own, coarse) = _ways(model)
    for way, tolerance in better:
        try:
            return Reference(inputs, way, tolerance, way(model, inputs, masks or {}, run))
        except Exception:  # whatever a network of the user's raises on a precision that it does not expect
            continue
    return Reference(inputs, own, coarse, own(model, inputs, masks or {}, run))


def _ways(model: nn.Module) -> Iterator[tuple[Way, float]]:
    yield forward_double, TOLERANCE
    yield partial(_forward_copy, torch.float64), TOLERANCE
    if any(_is_half(tensor) for _, tensor in state(model)):
        yield partial(_forward_copy, torch.float32), COARSE
    yield partial(_forward_copy, None), COARSE


def _is_half(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and torch.finfo(tensor.dtype).bits < 32


def _forward_copy(
    dtype: torch.dtype | None, model: nn.Module, inputs: Inputs, masks: Masks, run: Pass
) -> tuple[Tensor, ...]:
    """A forward pass on masked copies of all tensors in one precision; None: their own."""

    def converted(x: Any) -> Any:
        return x.to(dtype) if dtype and isinstance(x, Tensor) and x.is_floating_point() else x

    memory = [(tensor, tensor.data) for _, tensor in state(model)]
    try:
        for tensor, data in memory:
            tensor.data = converted(data * masks[tensor] if tensor in masks else data.clone())
        return run(model, tree_map(converted, inputs))
    finally:
        for tensor, data in memory:
            tensor.data = data


def difference(model: nn.Module, inputs: Inputs, expected: Sequence[Tensor]) -> str:
    """What is wrong with the outputs, in words; empty where they are ``expected``, as ``forward`` gives them."""
    return _difference(lambda: forward(model, inputs), expected, COARSE)


def _difference(run: Callable[[], tuple[Tensor, ...]], expected: Sequence[Tensor], tolerance: float) -> str:
    try:
        got = run()
    except Exception as error:  # whatever a network of the user's raises on a size it does not expect
        line = (str(error).strip().splitlines() or [""])[0]
        return f"does not run: {type(error).__name__}: {line}"
    numbers = any(_is_inexact(wanted) for wanted in expected)
    for mine, wanted in zip(got, expected, strict=False):
        if mine.shape != wanted.shape:
            return f"returns shape {tuple(mine.shape)}, not {tuple(wanted.shape)}"
        if not _is_inexact(wanted):  # a pick among near-equal numbers may change with their rounding
            if not numbers and not torch.equal(mine, wanted):
                return "picks other positions than the masked one"
        elif not _close(mine, wanted, tolerance):
            return f"differs from the masked one by {float((mine - wanted).abs().max()):.2g}"
    return "" if len(got) == len(expected) else "returns another number of tensors"


def _is_inexact(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _close(mine: Tensor, wanted: Tensor, tolerance: float) -> bool:
    finite = wanted[wanted.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 1.0
    tolerance = max(tolerance, 8 * torch.finfo(wanted.dtype).eps)
    return torch.allclose(mine, wanted, rtol=0.0, atol=tolerance * scale, equal_nan=True)


Problem = Callable[[Sequence[Group]], str]
"""Why these groups cannot be shrunk beside each other; empty where they can."""


def beside(some: Sequence[Group], problem: Problem, reasons: dict[str, str]) -> list[Group]:
    """Those that pass beside each other, found by halving; where two halves do not fit, the earlier groups stay."""
    found = problem(some)
    if not found:
        return list(some)
    if len(some) == 1:
        reasons[_key(some[0])] = found
        return []
    middle = len(some) // 2
    left, right = (beside(half, problem, reasons) for half in (some[:middle], some[middle:]))
    if len(left) + len(right) < len(some) and not problem([*left, *right]):
        return [*left, *right]
    for group in right:
        found = problem([*left, group])
        if found:
            reasons[_key(group)] = found
        else:
            left.append(group)
    return left


def _key(group: Group) -> str:
    return group.dims[-1] if group.dims else group.name
