"""Operators that act on each position alone: their operands' axes are unified, broadcast dims aside.

Whether removed positions stay zero is not tabled but tried: the operator is run on a few numbers, zeros where an
operand is known to be zero and arbitrary values elsewhere.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from secateurs.graph.axes import Axis, MisalignedError, Node, cut, freeze, unify
from secateurs.graph.labels import Label
from secateurs.graph.trace import Call, Rule

SAMPLES = (-1.7, 0.4, 2.3)


def pointwise(call: Call) -> None:
    """Unify the operands position by position."""
    operands, out = call.inputs(), call.outputs()[0]
    labels = [call.label(t) for t in operands]
    axes: list[Axis] = []
    for i, size in enumerate(out.shape, -out.dim()):  # dims are aligned from the last
        met = [label.axes[i] for t, label in zip(operands, labels, strict=True) if t.dim() >= -i and t.shape[i] == size]
        carried = met if size != 1 else []
        for other in carried[1:]:
            unify(carried[0], other, f"{call.name} meets it in two arrangements")
        axes.append(carried[0] if carried else ())
    call.give(axes, _dirty(call, labels), out)


def _dirty(call: Call, labels: list[Label]) -> set[Node]:
    known = [(label.carried(), label.dirty_leaves()) for label in labels]
    dirty: set[Node] = set()
    answers = call.trace.tried.setdefault(_form(call), {})  # the same operator is met in every layer
    for leaf in frozenset().union(*(carried for carried, _ in known)):
        zero = tuple(leaf in carried and leaf not in unclean for carried, unclean in known)
        if zero not in answers:
            answers[zero] = _stays_zero(call, zero)
        stays = answers[zero]
        if stays is None:
            freeze((leaf,), f"{call.name} is undefined where its entries are zero")
        if not stays:
            dirty.add(leaf)
    return dirty


def _form(call: Call) -> tuple[Any, ...]:
    """What an operator call has in common with others that compute the same of each number."""
    given = (*call.args, *call.kwargs.items())
    return call.func, *(x.dtype if isinstance(x, Tensor) else repr(_types(x)) for x in given)


def _types(x: Any) -> Any:
    return tree_map(lambda x: x.dtype if isinstance(x, Tensor) else x, x) if isinstance(x, list | tuple) else x


def _stays_zero(call: Call, zero: tuple[bool, ...]) -> bool | None:
    """Run the operator on numbers: True where the result is zero; None where only zeros make it not finite."""
    result = _tried(call, zero)
    if result is None:
        return False
    if any(zero) and result.is_floating_point():
        usual = _tried(call, (False,) * len(zero))
        if usual is not None and bool((usual.isfinite() & ~result.isfinite()).any()):
            return None
    return not bool(result.any())


def _tried(call: Call, zero: tuple[bool, ...]) -> Tensor | None:
    """The operator on zeros where an operand is zero, and on every combination of sample values of the others."""
    values = [
        torch.tensor((False, True)) if t.dtype == torch.bool else torch.tensor(SAMPLES).to(t.dtype)
        for t in call.inputs()
    ]
    picks = torch.meshgrid(*(torch.arange(len(v)) for v in values), indexing="ij")
    numbers = [v[pick] for v, pick in zip(values, picks, strict=True)]
    stand_ins = iter([torch.zeros_like(n) if z else n for n, z in zip(numbers, zero, strict=True)])
    args, kwargs = tree_map(lambda x: next(stand_ins) if isinstance(x, Tensor) else x, (call.args, call.kwargs))
    if "device" in kwargs:
        kwargs["device"] = torch.device("cpu")
    try:
        result = call.func(*args, **kwargs)
    except (RuntimeError, TypeError):
        return None
    return result if isinstance(result, Tensor) else None


def same(call: Call) -> None:
    """The output is the first operand in every position."""
    source, out = call.inputs()[0], call.outputs()[0]
    label = call.label(source)
    call.give(label.axes, label.dirty, out)
    origin = call.origin(source)
    if origin is not None and out is not source:
        call.trace.origins[out] = origin


def uniform(call: Call) -> None:
    """A tensor filled with one value: free to shrink, as every position is like another."""
    out = call.outputs()[0]
    alike = [t for t in call.inputs() if t.shape == out.shape]  # zeros_like and its kin
    axes = call.axes(alike[0]) if alike else tuple((Node(n),) for n in out.shape)
    zero = "zero" in call.name
    call.give(axes, () if zero else [node for axis in axes for node in axis], out)


def glu(call: Call) -> None:
    """The first half of a dim times a sigmoid of the second: the halves are one dim, and zeros stay."""
    source = call.inputs()[0]
    label = call.label(source)
    dim = call.arg(1, "dim", -1) % source.dim()
    axes = list(label.axes)
    try:
        axes[dim], gate = cut(axes[dim], source.shape[dim] // 2)
        unify(axes[dim], gate, f"{call.name} meets it in two arrangements")
    except MisalignedError:
        freeze(axes[dim], f"{call.name} cuts across it")
        axes[dim] = (Node(source.shape[dim] // 2, f"{call.name} cuts across it"),)
    call.give(axes, label.dirty)


SAME = "clone detach detach_ alias _to_copy lift_fresh lift_fresh_copy contiguous dropout"

RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {f"aten.{name}": same for name in SAME.split()}
    | {
        f"aten.{name}": pointwise
        for name in (
            "copy_",
            "copy",
            "masked_fill",
            "masked_fill_",
            "hardswish",
            "hardswish_",
            "floor_divide",
            "polar",
            "complex",
        )
    }
    | {f"aten.{name}": pointwise for name in ("prelu", "_prelu_kernel")}
    | {"aten.glu": glu}
    | {
        f"aten.{name}": uniform
        for name in ("zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like")
    }
    | {f"aten.{name}": uniform for name in ("new_zeros", "new_ones", "new_full", "new_empty", "fill_", "zero_")}
)
