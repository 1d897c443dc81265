"""Operators that pick positions by data: what is indexed is frozen but by its own numbers; what is carried passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MappingProxyType

from torch import Tensor

from secateurs.graph.axes import Axis, MisalignedError, Node, cut, freeze, leaves, size_of, tag, unify
from secateurs.graph.constants import MADE
from secateurs.graph.trace import Call, Rule
from secateurs.graph.weightless import UnknownValueError

INDEXED = "its positions are picked by data"
DRAWN = (
    "normal_ uniform_ bernoulli_ exponential_ random_ log_normal_ cauchy_ geometric_ normal bernoulli multinomial "
    "poisson rand_like randn_like randint_like"
)


def embedding(call: Call) -> None:
    """Rows of a table by number."""
    table, index = call.args[0], call.args[1]
    rows, *rest = call.axes(table)
    if not call.trace.picks.find(rows, index, INDEXED):
        tag(rows, "vocabulary", *(["looked up by constants"] if call.label(index).fixed else []))
    call.give([*call.axes(index), *rest], call.dirty(table, index))


def embedding_bag(call: Call) -> None:
    """Sums, means or maxima of rows of a table, by number."""
    table, *others = call.inputs()
    rows, *rest = call.axes(table)
    freeze(rows, INDEXED)
    tag(rows, "vocabulary")
    for axis in (axis for tensor in others for axis in call.axes(tensor)):
        freeze(axis, INDEXED)
    made(call)
    out = call.outputs()[0]
    call.give([(Node(out.shape[0], INDEXED),), *rest], call.dirty(table), out)


def index(call: Call) -> None:
    """Advanced indexing ``x[i, j]``: the indexed dims give way to the dims of the index."""
    source, picks = call.args[0], call.args[1]
    stretch = _stretch(call, source, picks)
    if stretch:
        dim, axis = stretch
        axes = call.axes(source)
        call.give([*axes[:dim], axis, *axes[dim + 1 :]], call.dirty(source))
        return
    before, after = _around(call, source, picks)
    n_new = call.outputs()[0].dim() - len(before) - len(after)
    shape = call.outputs()[0].shape[len(before) : len(before) + n_new]
    fresh: list[Axis] = [(Node(n, INDEXED),) for n in shape]
    tensors = [pick for pick in picks if isinstance(pick, Tensor)]
    if len(tensors) == 1 and tensors[0].dtype.is_signed and tensors[0].dim() == n_new:
        fresh = list(call.axes(tensors[0]))
    call.give([*before, *fresh, *after], call.dirty(source, *tensors))


def _stretch(call: Call, source: Tensor, picks: Sequence[Tensor | None]) -> tuple[int, Axis] | None:
    """The dim, and what is taken of it, where literal numbers pick one neighbour after the other: no more than a slice.

    Numbers from the end, as in ``x[..., [-2], :]``, stay right when the dim shrinks; others a forward pass refutes.
    """
    ((dim, pick), *others) = [(d, pick) for d, pick in enumerate(picks) if pick is not None]
    if others or pick.dim() != 1 or not pick.dtype.is_signed or not call.label(pick).fixed:
        return None
    try:
        numbers = [i % source.shape[dim] for i in pick.clone().tolist()]  # what nobody knows has no values once copied
    except (RuntimeError, UnknownValueError):  # a tensor without values
        return None
    if not numbers or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return None
    try:
        return dim, cut(cut(call.axes(source)[dim], numbers[0])[1], len(numbers))[0]
    except MisalignedError:
        return None


def _around(call: Call, source: Tensor, picks: Sequence[Tensor | None]) -> tuple[list[Axis], list[Axis]]:
    """What stands before and after the dims of the index; the indexed dims are frozen."""
    label = call.label(source)
    found = list(_indexed(picks))
    for d, pick in found:
        call.trace.picks.find(label.axes[d], pick, INDEXED)
    at = [d for d, _ in found]
    adjacent = bool(at) and at == list(range(at[0], at[-1] + 1))
    kept = [d for d in range(source.dim()) if d not in at]
    before = [label.axes[d] for d in kept if adjacent and d < at[0]]
    return before, [label.axes[d] for d in kept if not (adjacent and d < at[0])]


def _indexed(picks: Sequence[Tensor | None]) -> Iterator[tuple[int, Tensor]]:
    """The dims that are indexed, and by what; a mask covers as many as it has itself."""
    d = 0
    for pick in picks:
        covered = 1 if pick is None or pick.dtype.is_signed else pick.dim()
        if pick is not None:
            yield from ((d + i, pick) for i in range(covered))
        d += covered


def index_select(call: Call) -> None:
    """Positions of one dim by a vector of numbers."""
    source, dim, picks = call.args[:3]
    label = call.label(source)
    dim %= source.dim()
    call.trace.picks.find(label.axes[dim], picks, INDEXED)
    picked: Axis = call.axes(picks)[0] if picks.dim() else ()
    call.give([*label.axes[:dim], picked, *label.axes[dim + 1 :]], call.dirty(source, picks))


def gather(call: Call) -> None:
    """Positions of one dim by numbers that differ along the other dims; these are the same in both."""
    source, dim, picks = call.args[:3]
    _alongside(call, dim, picks, source)
    picked = call.axes(picks)[dim] if picks.dim() else ()
    call.give(call.axes(picks), call.dirty(source) | frozenset(leaves(picked)))


def scatter(call: Call) -> None:
    """A tensor or a number written, or added, at positions of one dim; along the other dims all have the same."""
    target, dim, picks, written = call.args[:4]
    tensors = [t for t in (target, written) if isinstance(t, Tensor)]
    clean = _alongside(call, dim, picks, *tensors) - call.dirty(target)
    stays_zero = len(tensors) > 1 and written.dim() == target.dim()
    call.give(call.axes(target), call.dirty(*tensors) if stays_zero else frozenset(leaves(*call.axes(target))) - clean)


def _alongside(call: Call, dim: int, picks: Tensor, whole: Tensor, *parts: Tensor) -> frozenset[Node]:
    """One dim of all is picked by data; along the others they have the same positions, or are frozen.

    Returns:
        What is found by numbers of itself: of that no position which is gone is picked.
    """
    axes = call.axes(whole) or ((),)
    own = False
    for part in (*parts, picks):
        alike = part.dim() == whole.dim()
        for d, axis in enumerate(call.axes(part)):
            at = d if alike else dim
            if alike and d != dim % whole.dim() and size_of(axis) == size_of(axes[d]):
                unify(axes[d], axis, f"{call.name} meets it in two arrangements")
                continue
            freeze(axis, INDEXED)
            if at % len(axes) == dim % len(axes):
                own = call.trace.picks.find(axes[at], picks, INDEXED)
            else:
                freeze(axes[at], INDEXED)
    return frozenset(leaves(axes[dim])) if own else frozenset()


def index_put(call: Call) -> None:
    """``x[i, j] = values``: the values are broadcast over what the index leaves."""
    target, picks, values = call.args[:3]
    before, after = _around(call, target, picks)
    n_new = max(pick.dim() if pick.dtype.is_signed else 1 for pick in picks if pick is not None)
    places: list[Axis | None] = [*before, *[None] * n_new, *after]
    kept = frozenset(leaves(*before, *after))
    for place, axis in zip(reversed(places), reversed(call.axes(values)), strict=False):
        if place is None:
            freeze(axis, INDEXED)
        elif size_of(axis) != 1:
            unify(place, axis, f"{call.name} meets it in two arrangements")
            kept -= call.label(values).carried()
    call.give(call.axes(target), call.dirty(target, values) | kept)


def masked_scatter(call: Call) -> None:
    """Values in their order where a mask is set; the last dims, along which it is one value, are the same in both."""
    target, mask, values = call.args[:3]
    mine, theirs = call.axes(target), call.axes(values)
    whole = 0  # how many of the last dims are written as a whole
    strides = mask.expand_as(target).stride()
    while (
        whole < min(len(mine), len(theirs))
        and strides[-whole - 1] == 0
        and target.shape[-whole - 1] == values.shape[-whole - 1]
    ):
        whole += 1
        unify(mine[-whole], theirs[-whole], f"{call.name} meets it in two arrangements")
    for axis in (*mine[: len(mine) - whole], *theirs[: len(theirs) - whole]):
        freeze(axis, INDEXED)
    call.give(mine, call.dirty(target, values))


def made(call: Call) -> None:
    """Values made in the forward pass: counting, random numbers, literals."""
    for out in call.outputs():
        call.give([(Node(n, MADE),) for n in out.shape], out=out)


def drawn(call: Call) -> None:
    """Random numbers for the positions of a tensor, in their order."""
    for axis in (axis for tensor in call.inputs() for axis in call.axes(tensor)):
        freeze(axis, "random numbers are drawn for its positions")
    made(call)


def counted(call: Call) -> None:
    """Numbers of positions: what they count is frozen."""
    for axis in call.axes(call.args[0]):
        freeze(axis, "its positions are counted")
    made(call)


def nonzero(call: Call) -> None:
    """Where a vector is not zero, in numbers of its positions; those that are gone must be zero in it."""
    source, out = call.args[0], call.outputs()[0]
    if source.dim() != 1 or call.dirty(source) & frozenset(leaves(call.axes(source)[0])):
        counted(call)
        return
    made(call)
    call.trace.picks.give(call.axes(source)[0], out)


def binned(call: Call) -> None:
    """How often each number occurs: one bin for each position that the numbers name, or frozen."""
    source, out = call.args[0], call.outputs()[0]
    axis = call.trace.picks.of(source)
    bins = out.shape[0]
    bounds = (call.arg(2, "min", 0), call.arg(3, "max", 0)) if "histc" in call.name else (0, bins - 1)
    counted(call)
    if len(call.inputs()) == 1 and axis and size_of(axis) == bins and bounds == (0, bins - 1):
        call.trace.picks.find(axis, source, INDEXED)
        call.give([axis])


def taken(call: Call) -> None:
    """One number for Python: if it is of a position, Python selects by it at once, or the axis is frozen."""
    axis = call.trace.picks.of(call.args[0])
    counted(call)
    if axis:
        call.trace.picks.read.append(call.args[0])
        call.trace.picks.waiting.append((axis, int(call.out)))


RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {"aten.embedding": embedding, "aten.index": index, "aten.index_select": index_select, "aten.gather": gather}
    | {f"aten.{name}": scatter for name in ["scatter", "scatter_", "scatter_add", "scatter_add_", "scatter_reduce"]}
    | {f"aten.{name}": scatter for name in ["scatter_reduce_", "index_add", "index_add_", "index_copy", "index_fill"]}
    | {f"aten.{name}": index_put for name in ("index_put", "index_put_", "_unsafe_index_put")}
    | {f"aten.masked_scatter{in_place}": masked_scatter for in_place in ("", "_")}
    | {f"aten.{name}": counted for name in ("_is_all_true",)}
    | {f"aten.{name}": counted for name in ("_unique2", "unique_consecutive", "unique_dim", "bucketize", "equal")}
    | {"aten.nonzero": nonzero, "aten.histc": binned, "aten.bincount": binned, "aten._local_scalar_dense": taken}
    | {f"aten.{name}": embedding_bag for name in ("_embedding_bag", "_embedding_bag_forward_only")}
    | {f"aten.{name}": drawn for name in DRAWN.split()}
    | {
        f"aten.{name}": made
        for name in (
            "arange",
            "linspace",
            "eye",
            "scalar_tensor",
            "rand",
            "randn",
            "randint",
            "randperm",
            "tril_indices",
            "triu_indices",
        )
    }
)
