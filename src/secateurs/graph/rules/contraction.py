"""Operators that multiply and sum: matrix products, convolutions, fused attention."""

from __future__ import annotations

from types import MappingProxyType

from torch import Tensor

from secateurs.graph.axes import (
    Axis,
    MisalignedError,
    Node,
    align,
    factors,
    flag,
    freeze,
    leaves,
    size_of,
    split,
    tag,
    unify,
)
from secateurs.graph.trace import Call, Rule
from secateurs.types import Weight


def sum_over(call: Call, a: Tensor, along_a: Axis, b: Tensor, along_b: Axis) -> None:
    """Unify the contracted axis. Removed positions must add nothing: one operand at least must be zero there."""
    unify(along_a, along_b, f"{call.name} sums over it in two arrangements")
    for leaf in call.dirty(a) & call.dirty(b) & frozenset(leaves(along_a)):
        freeze((leaf,), f"{call.name} sums over it where its entries are not zero")


def note_weight(call: Call, tensor: Tensor, inputs: tuple[int, ...]) -> str | None:
    """Write down a parameter that multiplies an activation, and the axes of it that are summed over; its name."""
    origin = call.origin(tensor)
    if origin is None:
        return None
    if origin.name not in call.trace.weights:
        summed = tuple(origin.order[d] for d in inputs)
        if any(axis < 0 or origin.order.count(axis) > 1 for axis in summed):  # no axis, or but a part of one
            return None
        outputs = tuple(dict.fromkeys(axis for axis in origin.order if axis not in (*summed, -1)))
        lost = [axis for axis in range(len(origin.shape)) if axis not in (*outputs, *summed)]
        apart = tuple(axis for axis in lost if origin.shape[axis] > 1)  # its matrices are taken one by one
        alone = tuple(axis for axis in lost if origin.shape[axis] == 1)
        call.trace.weights[origin.name] = Weight(origin.name, origin.shape, (*apart, *outputs), (*summed, *alone))
    return origin.name


def _tag_product(call: Call, a: Tensor, b: Tensor, batch: Axis) -> None:
    """Tell layers (one side fixed) from attention (both sides computed)."""
    fixed = [t for t in (a, b) if call.label(t).fixed]
    for tensor in fixed:
        for axis in call.axes(tensor):
            tag(axis, "linear")
    if not fixed:
        tag(batch, "batched")
        for axis in (*call.axes(a)[-2:], *call.axes(b)[-2:]):
            tag(axis, "inner")


def matmul(call: Call) -> None:
    """``mm``, ``bmm``, and with a summand ``addmm``, ``baddbmm``; vectors are matrices of one column."""
    a, b = (t for t in call.args[-2:] if isinstance(t, Tensor))
    la, lb = call.axes(a), call.axes(b)
    batch = la[:-2]
    m = la[-2] if a.dim() > 1 else ()
    n = lb[-1] if b.dim() > 1 else ()
    k = la[-1]
    if batch:
        unify(batch[0], lb[0], f"{call.name} meets it in two arrangements")
    sum_over(call, a, k, b, lb[-2] if b.dim() > 1 else lb[-1])
    _tag_product(call, a, b, batch[0] if batch else ())
    call.contract(*batch, m, k, n, weight=_weight_of(call, a, b))
    axes = [*batch, *([m] if a.dim() > 1 else []), *([n] if b.dim() > 1 else [])]
    both = call.dirty(a) & call.dirty(b)
    dirty = (call.dirty(a) & frozenset(leaves(m))) | (call.dirty(b) & frozenset(leaves(n))) | both
    if len(call.args) > 2:
        dirty |= _add_summand(call, call.args[0], axes)
    call.give(axes, dirty)


def _weight_of(call: Call, a: Tensor, b: Tensor) -> str | None:
    """The weight of a product of matrices, or of matrices side by side: those of experts, or of heads."""
    if a.dim() > 2 and call.label(a).fixed and call.label(b).fixed:  # tables made of parameters alone
        return None
    found = note_weight(call, b, (b.dim() - 2,)) if b.dim() > 1 else None
    return note_weight(call, a, (a.dim() - 1,)) if found is None and a.dim() > 1 else found


def _add_summand(call: Call, summand: Tensor, axes: list[Axis]) -> frozenset[Node]:
    """Unify a broadcast summand with the product; what it does not carry, it makes dirty."""
    for mine, axis in zip(reversed(axes), reversed(call.axes(summand)), strict=False):
        if size_of(axis) != 1:
            unify(mine, axis, f"{call.name} meets it in two arrangements")
    carried = call.label(summand).carried()
    return call.dirty(summand) | (frozenset(leaves(*axes)) - carried)


def convolution(call: Call) -> None:
    """Any number of spatial dims, strided, dilated, grouped, transposed."""
    x, weight, bias = call.args[:3]
    transposed, groups = call.args[6], call.args[8]
    lx, lw = call.axes(x), call.axes(weight)
    reason = f"{call.name} meets it in two arrangements"
    try:
        if transposed:
            out = _conv_channels(lx[1], lw[0], lw[1], groups, reason)
        else:
            channels_in, out = _grouped_inputs(lx[1], lw[0], lw[1], groups, reason)
            unify(channels_in, lw[1], reason)
    except MisalignedError:
        freeze((*lx[1], *lw[0], *lw[1]), f"{call.name} groups cut across it")
        out = (Node(call.out.shape[1], f"{call.name} groups cut across it"),)
    both = call.dirty(x) & call.dirty(weight)
    for leaf in both & frozenset(leaves(lw[0] if transposed else lw[1])):
        freeze((leaf,), f"{call.name} sums over it where its entries are not zero")
    for axis in lw[2:]:
        freeze(axis, "a kernel position")
    for axis in lx[2:]:
        freeze(axis, "a spatial position")
    tag((*lx[1], *out), "conv")
    kernel = tuple(range(2, weight.dim()))
    name = note_weight(call, weight, ((0,) if transposed else (1,)) + kernel)
    spatial = [(Node(n, "a spatial position"),) for n in call.out.shape[2:]]
    call.contract(lx[0], *(lx[2:] if transposed else spatial), *lw, weight=name)
    dirty = both | (call.dirty(x) & frozenset(leaves(lx[0]))) | (call.dirty(weight) & frozenset(leaves(out)))
    if bias is not None:
        unify(call.axes(bias)[0], out, reason)
        dirty |= call.dirty(bias) | frozenset(leaves(lx[0]))
    call.give([lx[0], out, *spatial], dirty)


def _grouped_inputs(x: Axis, rows: Axis, columns: Axis, groups: int, reason: str) -> tuple[Axis, Axis]:
    """The input channels inside a group, and the output axis; the group dim itself is shared by both."""
    if groups == 1:
        return x, rows
    group_in, inside = split(x, groups)
    group_out, _ = split(rows, groups)
    unify((group_in,), (group_out,), reason)
    if size_of(columns) > 1:
        tag((group_in,), "grouped")
    return (inside,), rows


def _conv_channels(x: Axis, rows: Axis, columns: Axis, groups: int, reason: str) -> Axis:
    """A transposed convolution: its rows are inputs, its columns the outputs of one group."""
    unify(x, rows, reason)
    if groups == 1:
        return columns
    group, _ = split(x, groups)
    if size_of(columns) > 1:
        tag((group,), "grouped")
    return (group, *columns)


def grouped(call: Call) -> None:
    """Rows in stretches, each times a matrix of its own, as experts are: ``(rows, k) x (matrices, k, n)``."""
    rows, matrices = call.args[:2]
    if (rows.dim(), matrices.dim()) != (2, 3):
        call.give_unknown(f"{call.name} of this layout has no rule")
        return
    (m, k), (which, inputs, n) = call.axes(rows), call.axes(matrices)
    offsets = call.arg(2, "offs")
    stretches = call.axes(offsets)[0] if isinstance(offsets, Tensor) else ()
    if all(leaf.frozen for leaf in leaves(stretches)):
        freeze(which, "data decide which of it works")
    else:  # stretches of the rows that each was picked for
        unify(which, stretches, f"{call.name} meets it in two arrangements")
        flag(which, "data decide which of it works")
        tag(which, "picked")
    sum_over(call, rows, k, matrices, inputs)
    _tag_product(call, rows, matrices, ())
    call.contract(m, k, n, weight=note_weight(call, matrices, (1,)))
    both = call.dirty(rows) & call.dirty(matrices)
    mine = call.dirty(rows) & frozenset(leaves(m))
    call.give([m, n], mine | (call.dirty(matrices) & frozenset(leaves(n))) | both)


def solve(call: Call) -> None:
    """Triangular systems side by side: ``a x = b`` for every matrix of a batch."""
    a, b = call.args[:2]
    (*batch, rows, columns), axes = call.axes(a), call.axes(b)
    if call.out.shape != b.shape or a.dim() != b.dim():
        call.give_unknown(f"{call.name} of this layout has no rule")
        return
    for mine, other in zip(batch, axes, strict=False):
        if size_of(mine) == size_of(other):
            unify(mine, other, f"{call.name} meets it in two arrangements")
    for axis in (rows, columns, axes[-2 if call.kwargs.get("left", True) else -1]):
        freeze(axis, f"a system is solved along it ({call.name})")
    if not call.kwargs.get("unitriangular", False):
        whole = frozenset(leaves(*batch)) - call.dirty(a)
        freeze(whole, f"{call.name} is undefined where its entries are zero")
    call.give(axes, call.dirty(b))


def aligned(call: Call) -> None:
    """The fused kernel of the same: rows in memory begin at multiples of 16 bytes, 8 numbers of half precision."""
    for tensor in call.args[:2]:
        for axis, stride in zip(call.axes(tensor), tensor.stride(), strict=True):
            if stride == 1:
                align(axis, 8)
    grouped(call)


def trilinear(call: Call) -> None:
    """Three tensors multiplied, each broadcast along dims of its own, and summed over some dims: ``nn.Bilinear``."""
    operands, broadcast, summed = call.args[:3], call.args[3:6], call.args[6]
    count = operands[0].dim() + len(broadcast[0])
    dims = [[d for d in range(count) if d not in missing] for missing in broadcast]
    axes: dict[int, Axis] = {}
    for tensor, places in zip(operands, dims, strict=True):
        for d, axis in zip(places, call.axes(tensor), strict=True):
            unify(axes.setdefault(d, axis), axis, f"{call.name} meets it in two arrangements")
            tag(axis, "linear")
    zero = frozenset().union(*(call.label(t).carried() - call.dirty(t) for t in operands))
    names = [
        note_weight(call, t, tuple(i for i, d in enumerate(at) if d in summed))
        for t, at in zip(operands, dims, strict=True)
    ]
    for d in summed:
        freeze(frozenset(leaves(axes[d])) - zero, f"{call.name} sums over it where its entries are not zero")
    call.contract(*axes.values(), weight=next((name for name in names if name), None))
    kept = [axes[d] for d in range(count) if d not in summed]
    call.give(kept, frozenset(leaves(*kept)) - zero)


def distance(call: Call) -> None:
    """Distances between all rows of two tables: differences are summed over, so both must be zero."""
    a, b = call.args[:2]
    la, lb = call.axes(a), call.axes(b)
    for mine, other in zip(reversed((*la[:-2], la[-1])), reversed((*lb[:-2], lb[-1])), strict=False):
        if size_of(mine) == size_of(other):
            unify(mine, other, f"{call.name} meets it in two arrangements")
    dirty = call.dirty(a, b) & frozenset(leaves(la[-1]))
    freeze(dirty, f"{call.name} sums over it where its entries are not zero")
    batch = la[:-2] if a.dim() >= b.dim() else lb[:-2]
    out: list[Axis] = [
        axis if size_of(axis) == n else (Node(n, f"{call.name} broadcasts it"),)
        for axis, n in zip((*batch, la[-2], lb[-2]), call.out.shape, strict=True)
    ]
    call.give(out, leaves(*out))


def attention(call: Call) -> None:
    """Fused ``softmax(q k^T) v``; fewer key-value heads than query heads are shared by groups of queries."""
    q, k, v = call.args[:3]
    lq, lk, lv = call.axes(q), call.axes(k), call.axes(v)
    reason = f"{call.name} meets it in two arrangements"
    unify(lq[0], lk[0], reason)
    unify(lk[0], lv[0], reason)
    unify(lk[1], lv[1], reason)
    unify(lk[2], lv[2], reason)
    unify(_shared_heads(call, lq[1], lk[1]), lk[1], reason)
    sum_over(call, q, lq[3], k, lk[3])
    if call.kwargs.get("scale") is None:
        flag(lq[3], "the scale of the attention follows its size")
    freeze((*lq[2], *lk[2]), "a position of the sequence")
    mask = call.arg(6, "attn_mask")
    if isinstance(mask, Tensor):
        for mine, axis in zip(reversed((lq[0], lq[1], lq[2], lk[2])), reversed(call.axes(mask)), strict=False):
            if size_of(axis) != 1:
                unify(mine, axis, reason)
    tag((*lq[1], *lk[1]), "batched")
    tag((*lq[3], *lv[3]), "inner")
    call.contract(lq[0], lq[1], lq[2], lq[3], lk[2])
    call.contract(lq[0], lq[1], lq[2], lk[2], lv[3])
    carried = call.label(v).carried()
    dirty = call.dirty(v) | (frozenset(leaves(lq[1])) - carried)
    out, *rest = call.outputs()
    call.give([*lq[:3], lv[3]], dirty, out)
    for extra in rest:
        known = [lq[0], lq[1], lq[2]] if extra.shape == out.shape[:3] else [(Node(n),) for n in extra.shape]
        call.give(known, (node for axis in known for node in factors(axis)), extra)


def _shared_heads(call: Call, queries: Axis, keys: Axis) -> Axis:
    """The part of the query heads that is told apart by key-value heads; the rest is the queries of a group."""
    if size_of(queries) == size_of(keys):
        return queries
    try:
        lead, trail = split(queries, size_of(keys))
    except MisalignedError:
        freeze((*queries, *keys), f"{call.name} groups cut across it")
        return keys
    tag((trail,), "expanded")
    return (lead,)


ATTENTION = "flash_attention_for_cpu flash_attention efficient_attention cudnn_attention fused_attention_overrideable"

RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {"aten._grouped_mm": aligned, "transformers.grouped_mm_fallback": grouped, "aten.linalg_solve_triangular": solve}
    | {f"aten.{name}": matmul for name in ("mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot", "vdot")}
    | {f"aten.{name}": convolution for name in ("convolution", "_convolution")}
    | {"aten._trilinear": trilinear, "aten._cdist_forward": distance, "aten._euclidean_dist": distance}
    | {f"aten._scaled_dot_product_{name}": attention for name in ATTENTION.split()}
)
