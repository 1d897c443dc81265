"""Whether two networks compute the same: what a proof by a forward pass compares, and in which precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from secateurs.graph.precision import WIDE, Masks, Pass, forward_double, forward_single
from secateurs.graph.trace import forward, state
from secateurs.types import Inputs

TOLERANCE = 1e-9
"""Largest accepted difference between masked and shrunk outputs in double precision, relative to the largest output."""

COARSE = 2e-5
"""The same in single precision, where rounding stays some ten times below."""

SINGLE = 5e-6
"""In single precision, for what is taken for proven by it."""

Way = Callable[[nn.Module, Inputs, Masks, Pass], tuple[Tensor, ...]]
"""How a network is run in a precision: network, inputs, what of it is read as zero, the forward pass -> outputs."""


@dataclass(frozen=True)
class Difference:
    """How two networks differ.

    Args:
        size: The largest difference of two outputs, relative to the largest output; zero where only the last digits
            differ, infinite where they cannot be compared.
        words: What is wrong where that is too much.
    """

    size: float = 0.0
    words: str = ""


@dataclass(frozen=True)
class Reference:
    """What a network computes, and how it was run.

    Args:
        inputs: Of the forward pass.
        run: How it was run; others are run alike.
        tolerance: Accepted difference, relative to the largest output.
        outputs: What it returned.
        along: Whether what modules return on the way must agree as well.
    """

    inputs: Inputs
    run: Way
    tolerance: float
    outputs: tuple[Tensor, ...]
    along: bool = False

    def compared(self, model: nn.Module) -> Difference:
        """How another network's outputs differ."""
        return _compared(lambda: self.run(model, self.inputs, {}, forward), self.outputs)

    def difference(self, model: nn.Module) -> str:
        """What is wrong with another network's outputs, in words; empty where nothing is."""
        found = self.compared(model)
        return found.words if found.size > self.tolerance else ""


def glance(model: nn.Module, inputs: Inputs, run: Pass = forward, masks: Masks | None = None) -> Reference | None:
    """Run a network in single precision, which costs a third; None where it has another.

    Args:
        model: Any network; it is left as it was.
        inputs: Of its forward.
        run: The forward pass; others, that are compared with it, take a plain one.
        masks: What of its parameters and buffers is read as zero.
    """
    if any(tensor.dtype in WIDE and tensor.dtype != torch.float32 for _, tensor in state(model)):
        return None
    try:
        return Reference(inputs, forward_single, SINGLE, forward_single(model, inputs, masks, run), True)
    except Exception:  # the full proof says what it is
        return None


def reference(model: nn.Module, inputs: Inputs, run: Pass = forward, masks: Masks | None = None) -> Reference:
    """Run a network in the best precision that it takes; it is left as it was.

    A wrong repair can come close (three heads of one for one head of three, where attention is nearly even), so it is
    run in double precision; where it cannot be, in single where it computes in half, and at last in its own.

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
    found = _compared(lambda: forward(model, inputs), expected)
    return found.words if found.size > COARSE else ""


def _compared(run: Callable[[], tuple[Tensor, ...]], expected: Sequence[Tensor]) -> Difference:
    try:
        got = run()
    except Exception as error:  # whatever a network of the user's raises on a size it does not expect
        line = (str(error).strip().splitlines() or [""])[0]
        return Difference(inf, f"does not run: {type(error).__name__}: {line}")
    numbers = any(_is_inexact(wanted) for wanted in expected)
    largest = Difference()
    for mine, wanted in zip(got, expected, strict=False):
        if mine.shape != wanted.shape:
            return Difference(inf, f"returns shape {tuple(mine.shape)}, not {tuple(wanted.shape)}")
        if not _is_inexact(wanted):  # a pick among near-equal numbers may change with their rounding
            if not numbers and not torch.equal(mine, wanted):
                return Difference(inf, "picks other positions than the masked one")
            continue
        size = apart(mine, wanted)
        if size > largest.size:
            words = f"differs from the masked one by {float((mine - wanted).abs().max()):.2g}"
            largest = Difference(size, words)
    return largest if len(got) == len(expected) else Difference(inf, "returns another number of tensors")


def _is_inexact(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def apart(mine: Tensor, wanted: Tensor) -> float:
    """Their largest difference, relative to the largest number wanted; zero where it is a matter of the last digits."""
    off = (mine - wanted).abs()
    if not bool(off.isfinite().all()):
        same = (mine == wanted) | (mine.isnan() & wanted.isnan())
        off = off.masked_fill(same, 0.0).nan_to_num(nan=inf)
        wanted = wanted[wanted.isfinite()]
    largest, scale = (float(x.abs().max()) if x.numel() else 0.0 for x in (off, wanted))
    if largest <= 8 * torch.finfo(off.dtype).eps * scale:
        return 0.0
    return largest / scale if scale else inf
