"""Operators that pick positions by data: what is indexed is frozen, what is carried along passes."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from torch import Tensor

from secateurs.graph.axes import Axis, Node, freeze, tag
from secateurs.graph.trace import Call, Rule

INDEXED = "its positions are picked by data"


def embedding(call: Call) -> None:
    """Rows of a table by number."""
    table, index = call.args[0], call.args[1]
    rows, *rest = call.axes(table)
    freeze(rows, INDEXED)
    tag(rows, "vocabulary")
    call.give([*call.axes(index), *rest], call.dirty(table, index))


def index(call: Call) -> None:
    """Advanced indexing ``x[i, j]``: the indexed dims give way to the dims of the index."""
    source, picks = call.args[0], call.args[1]
    label = call.label(source)
    at = _indexed(picks)
    kept: dict[int, Axis] = {d: axis for d, axis in enumerate(label.axes) if d not in at}
    for d in at:
        freeze(label.axes[d], INDEXED)
    n_new = call.outputs()[0].dim() - len(kept)
    adjacent = bool(at) and at == list(range(at[0], at[-1] + 1))
    before = [axis for d, axis in kept.items() if adjacent and d < at[0]]
    after = [axis for d, axis in kept.items() if not (adjacent and d < at[0])]
    shape = call.outputs()[0].shape[len(before) : len(before) + n_new]
    fresh: list[Axis] = [(Node(n, INDEXED),) for n in shape]
    tensors = [pick for pick in picks if isinstance(pick, Tensor)]
    if len(tensors) == 1 and tensors[0].dtype.is_signed and tensors[0].dim() == n_new:
        fresh = list(call.axes(tensors[0]))
    call.give([*before, *fresh, *after], call.dirty(source, *tensors))


def _indexed(picks: Sequence[Tensor | None]) -> list[int]:
    """The dims that are indexed; a mask covers as many as it has itself."""
    found: list[int] = []
    d = 0
    for pick in picks:
        covered = 1 if pick is None or pick.dtype.is_signed else pick.dim()
        found += range(d, d + covered) if pick is not None else ()
        d += covered
    return found


def index_select(call: Call) -> None:
    """Positions of one dim by a vector of numbers."""
    source, dim, picks = call.args[:3]
    label = call.label(source)
    dim %= source.dim()
    freeze(label.axes[dim], INDEXED)
    picked: Axis = call.axes(picks)[0] if picks.dim() else ()
    call.give([*label.axes[:dim], picked, *label.axes[dim + 1 :]], call.dirty(source, picks))


def made(call: Call) -> None:
    """Values made in the forward pass: counting, random numbers, literals."""
    for out in call.outputs():
        call.give([(Node(n, "its values are made in the forward pass"),) for n in out.shape], out=out)


def nonzero(call: Call) -> None:
    """Numbers of positions: what they count is frozen."""
    for axis in call.axes(call.args[0]):
        freeze(axis, "its positions are counted")
    made(call)


RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {"aten.embedding": embedding, "aten.index": index, "aten.index_select": index_select, "aten.nonzero": nonzero}
    | {f"aten.{name}": made for name in ("arange", "linspace", "eye", "scalar_tensor", "rand", "randn")}
)
