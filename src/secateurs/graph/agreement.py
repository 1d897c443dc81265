"""Whether two networks compute the same: what a proof by a forward pass compares, and in which precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from secateurs.graph.trace import forward, state
from secateurs.repair import copied
from secateurs.types import Group, Inputs

TOLERANCE = 2e-5
"""Largest accepted difference between masked and shrunk outputs, relative to the largest output, in single precision.

Rounding stays some ten times below; a stale size that happens to run shows as more, even in a network not yet trained.
"""


def in_single(model: nn.Module, inputs: Inputs) -> tuple[nn.Module, Inputs]:
    """A copy in single precision where the network computes in half, whose rounding would hide a stale size."""
    if not any(_is_half(tensor) for _, tensor in state(model)):
        return model, inputs
    trial = copied(model).float()
    single = tree_map(lambda x: x.float() if isinstance(x, Tensor) and _is_half(x) else x, inputs)
    try:
        forward(trial, single)
    except Exception:  # a precision written into the network: it is proven in that one
        return model, inputs
    return trial, single


def _is_half(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and torch.finfo(tensor.dtype).bits < 32


def difference(model: nn.Module, inputs: Inputs, expected: Sequence[Tensor]) -> str:
    """What is wrong with the outputs, in words; empty where nothing is."""
    try:
        got = forward(model, inputs)
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
        elif not _close(mine, wanted):
            return f"differs from the masked one by {float((mine - wanted).abs().max()):.2g}"
    return "" if len(got) == len(expected) else "returns another number of tensors"


def _is_inexact(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _close(mine: Tensor, wanted: Tensor) -> bool:
    finite = wanted[wanted.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 1.0
    tolerance = max(TOLERANCE, 8 * torch.finfo(wanted.dtype).eps)
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
