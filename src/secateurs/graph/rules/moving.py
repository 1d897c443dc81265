"""Operators that move positions in patterns of their own: unfolding, overlapping windows, strided views, reordering.

Which dims pass is not tabled but tried: the operator is run on the numbers of the positions, and a dim passes where its
coordinate comes out along a dim of the output, as a whole or times the positions of a window.
"""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor

from secateurs.graph.axes import Axis, Node, freeze
from secateurs.graph.trace import Call, Rule

MOVED = "its positions are rearranged"


def moved(call: Call) -> None:
    """Each dim of the source that some dim of the output carries passes; the others, and the windows, are frozen."""
    source, out = call.inputs()[0], call.outputs()[0]
    label = call.label(source)
    numbers = _numbers(call, source)
    if numbers is None or numbers.shape != out.shape:
        call.give_unknown(f"{call.name} rearranges its positions")
        return
    axes: list[Axis] = [(Node(n, MOVED),) for n in out.shape]
    passed: set[int] = set()
    for i, size in enumerate(out.shape):
        along = torch.arange(size, dtype=numbers.dtype).reshape([-1] + [1] * (out.dim() - i - 1))
        for d, (n, axis) in enumerate(zip(source.shape, label.axes, strict=True)):
            inner = source.shape[d + 1 :].numel()
            window = size // n if n > 1 and d not in passed and size % n == 0 else 0
            if window and bool(((numbers < 0) | ((numbers // inner) % n == along // window)).all()):
                axes[i] = (*axis, Node(window, MOVED))
                passed.add(d)
                break
    for d, axis in enumerate(label.axes):
        if d not in passed:
            freeze(axis, f"{call.name} rearranges its positions")
    call.give(axes, label.dirty)


def _numbers(call: Call, source: Tensor) -> Tensor | None:
    """The operator on the row-major numbers of the positions, in the source's memory order; -1 where it pads."""
    numbers = torch.empty_strided(source.shape, source.stride(), dtype=torch.float64)
    try:
        numbers.copy_(torch.arange(1, source.numel() + 1).reshape(source.shape))
        result: Tensor = call.func(numbers, *call.args[1:], **call.kwargs)
    except (RuntimeError, TypeError):
        return None
    return result.to(torch.int64) - 1


RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {f"aten.{name}": moved for name in ("im2col", "as_strided", "unfold", "diagonal", "pixel_unshuffle")}
)
