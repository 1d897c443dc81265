"""Operators that take a number from many: sums, means, softmax, norms, pooling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import MappingProxyType

from torch import Tensor

from secateurs.graph.axes import Axis, MisalignedError, Node, align, flag, freeze, leaves, size_of, split, tag, unify
from secateurs.graph.trace import Call, Rule

STATISTIC = "a statistic is taken over it"


def reduced_dims(call: Call, source: Tensor) -> list[int]:
    """The dims that a sum, a mean or a norm takes together."""
    given = call.arg(2 if "norm" in call.name else 1, "dim")
    if given is None or given == []:
        return list(range(source.dim()))
    return [d % source.dim() for d in (given if isinstance(given, list | tuple) else [given])]


def _give_reduced(call: Call, source: Tensor, dims: Iterable[int], keeps_zero: bool) -> None:
    label = call.label(source)
    dims = set(dims)
    for out in call.outputs():
        if out.dim() == source.dim():
            axes: list[Axis] = [() if d in dims else axis for d, axis in enumerate(label.axes)]
        else:
            axes = [axis for d, axis in enumerate(label.axes) if d not in dims]
        call.give(axes, label.dirty if keeps_zero else leaves(*axes), out)


def _only_in(axes: Sequence[Axis], dims: Iterable[int]) -> frozenset[Node]:
    """The leaves of some axes that no other axis carries: what is removed along them, the reference holds at zero."""
    dims = set(dims)
    inside, outside = ([axis for d, axis in enumerate(axes) if (d in dims) == held] for held in (True, False))
    return frozenset(leaves(*inside)) - frozenset(leaves(*outside))


def total(call: Call) -> None:
    """A sum: removed positions add nothing where they are zero."""
    source = call.inputs()[0]
    dims = reduced_dims(call, source)
    dirty = call.dirty(source)
    for d in dims:
        for leaf in leaves(call.axes(source)[d]):
            if leaf in dirty:
                freeze((leaf,), f"{call.name} sums over it where its entries are not zero")
    _give_reduced(call, source, dims, keeps_zero=True)


def norm(call: Call) -> None:
    """A norm of positive order sums powers, or takes the largest of what is not negative: zeros add nothing."""
    order = call.arg(1, "p" if call.name == "aten.norm" else "ord", 2)
    (total if order is None or order > 0 else statistic)(call)


def numbered(call: Call) -> bool:
    """Whether the last result of a maximum, or minimum, is where it was found."""
    return "arg" in call.name or (call.name in {"aten.max", "aten.min"} and isinstance(call.arg(1, "dim"), int))


def statistic(call: Call) -> None:
    """Means, maxima, products: the number of positions, or the zeros themselves, enter the result."""
    source = call.inputs()[0]
    dims = reduced_dims(call, source)
    numbers = numbered(call) and len(dims) > 1
    for d in dims:
        call.claim(call.axes(source)[d], f"{STATISTIC} ({call.name})", freeze if numbers else flag)
    _give_reduced(call, source, dims, keeps_zero="exp" not in call.name and "arg" not in call.name)
    if numbered(call) and len(dims) == 1:
        call.trace.picks.give(call.axes(source)[dims[0]], call.outputs()[-1])


def seen_whole(call: Call, source: Tensor) -> int:
    """The dim along which a softmax, a cumulative sum or a sort goes."""
    given = call.arg(2 if "topk" in call.name else 1, "dim", -1)
    return (given if isinstance(given, int) else -1) % source.dim()


def along(call: Call) -> None:
    """Softmax, cumulative sums, sorting: the shape stays, one dim is seen as a whole."""
    source = call.inputs()[0]
    dim = seen_whole(call, source)
    axes = list(call.axes(source))
    (freeze if "sort" in call.name else flag)(axes[dim], f"{STATISTIC} ({call.name})")
    tag(axes[dim], "ranked")
    clean = _only_in(axes, [dim])
    _ranked(call, axes[dim])
    for out in call.outputs():
        axes[dim] = axes[dim] if out.shape[dim] == source.shape[dim] else (Node(out.shape[dim], "picked by rank"),)
        call.give(axes, frozenset(leaves(*axes)) - clean, out)


def _ranked(call: Call, axis: Axis) -> None:
    """As many as are picked must stay; of a product, or of all positions, it cannot be said which may go."""
    if "topk" not in call.name:
        return
    count = call.args[1]
    if count >= size_of(axis):
        freeze(axis, f"all of its positions are picked ({call.name})")
    elif len(list(leaves(axis))) > 1:
        freeze(axis, f"{STATISTIC} ({call.name})")
    align(axis, 1, count)
    call.trace.picks.give(axis, call.outputs()[1])


def fourier(call: Call) -> None:
    """A transform over some dims; of real numbers half of the last one's frequencies are kept."""
    source, out = call.inputs()[0], call.outputs()[0]
    axes = list(call.axes(source))
    for d in call.args[1]:
        freeze(axes[d], f"{STATISTIC} ({call.name})")
        axes[d] = axes[d] if out.shape[d] == source.shape[d] else (Node(out.shape[d], "frequencies"),)
    call.give(axes, call.dirty(source))


def layer_norm(call: Call) -> None:
    """Layer and RMS norm: a statistic over the trailing dims, then scale and shift."""
    source, shape = call.args[0], call.args[1]
    axes = call.axes(source)
    normed = axes[len(axes) - len(shape) :]
    affine = [t for t in call.inputs()[1:] if t.dim() == len(shape)]
    for tensor in affine:
        for mine, axis in zip(normed, call.axes(tensor), strict=True):
            unify(mine, axis, f"{call.name} meets it in two arrangements")
    for axis in normed:
        flag(axis, f"{STATISTIC} ({call.name})")
        tag(axis, "statistic")
    shifted = len(affine) > 1
    out, *rest = call.outputs()
    dirty = frozenset(leaves(*axes)) if shifted else call.dirty(source)
    call.give(axes, dirty - _only_in(axes, range(len(axes) - len(shape), len(axes))), out)
    for extra in rest:
        kept = [axes[d] if extra.dim() > d and extra.shape[d] == source.shape[d] else () for d in range(extra.dim())]
        call.give(kept, leaves(*kept), extra)


def group_norm(call: Call) -> None:
    """A statistic over the channels inside a group; whole groups may go."""
    source, groups = call.args[0], call.args[6]
    axes = call.axes(source)
    affine = [t for t in call.inputs()[1:] if t.dim() == 1]
    for tensor in affine:
        unify(axes[1], call.axes(tensor)[0], f"{call.name} meets it in two arrangements")
    try:
        group, inside = split(axes[1], groups)
        flag((inside,), f"{STATISTIC} ({call.name})")
        if inside.size > 1:
            tag((inside,), "statistic")
            tag((group,), "grouped")
    except MisalignedError:
        freeze(axes[1], f"{call.name} groups cut across it")
    for axis in axes[2:]:
        freeze(axis, f"{STATISTIC} ({call.name})")
    out, *rest = call.outputs()
    call.give(axes, _scaled(call, axes), out)
    for extra in rest:
        call.give([(Node(n, STATISTIC),) for n in extra.shape], out=extra)


def _scaled(call: Call, axes: Sequence[Axis], mean: Tensor | None = None) -> frozenset[Node]:
    """What is dirty after each channel was scaled and shifted, by vectors that go with it."""
    source, scale, shift = call.args[0], call.arg(1, "weight"), call.arg(2, "bias")
    channels = frozenset(leaves(axes[1]))
    before = call.dirty(*(t for t in (source, mean) if t is not None))
    here = before & channels if scale is None else before & channels & call.dirty(scale)
    if shift is not None:
        here |= call.dirty(shift)
    elsewhere = before if mean is None and shift is None else frozenset(leaves(*axes))
    return here | (elsewhere - channels)


def batch_norm(call: Call) -> None:
    """Each channel by itself: scale, shift and running statistics carry the channel."""
    source, mean = call.args[0], call.arg(3, "running_mean")
    axes = call.axes(source)
    channel = axes[1]
    for tensor in call.inputs()[1:]:
        if tensor.dim() == 1 and tensor.shape[0] == source.shape[1]:
            unify(channel, call.axes(tensor)[0], f"{call.name} meets it in two arrangements")
    if not isinstance(mean, Tensor) or call.arg(5, "training") is True:
        mean = None
        for axis in (axes[0], *axes[2:]):
            freeze(axis, f"{STATISTIC} ({call.name})")
    out, *rest = call.outputs()
    call.give(axes, _scaled(call, axes, mean), out)
    for extra in rest:
        call.give([channel] if extra.shape == source.shape[1:2] else [(Node(n),) for n in extra.shape], (), extra)


def weight_norm(call: Call) -> None:
    """Direction times length (Salimans and Kingma 2016): a length of zero removes, a direction of zero divides by zero.

    The norms sum over the other dims, where zeros add nothing.
    """
    direction, length = call.args[:2]
    dim = call.arg(2, "dim", 0)
    axes = call.axes(direction)
    unify(axes[dim], call.axes(length)[dim], f"{call.name} meets it in two arrangements")
    dirty = call.dirty(direction)
    freeze(dirty, f"{call.name} sums over it where its entries are not zero")
    if not call.spare(direction, dim):
        freeze(axes[dim], f"{call.name} is undefined where its entries are zero")
    out, norm = call.outputs()
    call.give(axes, dirty | call.dirty(length), out)
    call.give(call.axes(length), leaves(axes[dim]), norm)


def pooling(call: Call) -> None:
    """Batch and channels pass; spatial positions, as many dims as the operator's name says, are new."""
    source = call.inputs()[0]
    label = call.label(source)
    kept = source.dim() - int(next(c for c in reversed(call.name) if c.isdigit()))
    for other in call.inputs()[1:]:  # where the maxima were
        for mine, axis in zip(label.axes[:kept], call.axes(other), strict=False):
            unify(mine, axis, f"{call.name} meets it in two arrangements")
    for axis in label.axes[kept:]:
        freeze(axis, "a spatial position")
    for out in call.outputs():
        spatial: list[Axis] = [(Node(n, "a spatial position"),) for n in out.shape[kept:]]
        call.give([*label.axes[:kept], *spatial], label.dirty, out)


def sampled(call: Call) -> None:
    """Pixels read between the positions of a grid, and sums of them; heads are batched, as in attention."""
    source, grid = call.args[:2]
    axes, places = call.axes(source), call.axes(grid)
    unify(axes[0], places[0], f"{call.name} meets it in two arrangements")
    if any(leaf.frozen is None for leaf in leaves(axes[0])):
        tag(axes[0], "batched")
        tag(axes[1], "inner")
    for axis in (*axes[2:], places[-1]):
        freeze(axis, "a spatial position")
    call.give([*axes[:2], *places[1:-1]], call.dirty(source) | frozenset(leaves(*places[1:-1])))


def grid(call: Call) -> None:
    """Positions to sample at, from the numbers of an affine map."""
    batch, *numbers = call.axes(call.args[0])
    for axis in numbers:
        freeze(axis, "its positions are the numbers of an affine map")
    axes: list[Axis] = [batch, *((Node(n, "a spatial position"),) for n in call.out.shape[1:])]
    call.give(axes, leaves(*axes))


def triangle(call: Call) -> None:
    """The upper or lower triangle of the last two dims."""
    label = call.label(call.inputs()[0])
    for axis in label.axes[-2:]:
        if size_of(axis) > 1:
            freeze(axis, f"{call.name} tells its positions apart")
    call.give(label.axes, label.dirty)


STATISTICS = "mean amax amin aminmax max min var std var_mean std_mean logsumexp prod argmax argmin all any"
NORMS = "norm linalg_vector_norm"
LAYER_NORMS = "native_layer_norm _fused_rms_norm rms_norm"
ALONG = "_softmax softmax _safe_softmax _log_softmax log_softmax cumsum cumprod sort topk logcumsumexp"
POOLS = (
    "max_pool2d_with_indices max_pool1d max_pool2d max_pool3d max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d "
    "adaptive_max_pool1d upsample_nearest1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d "
    "upsample_linear1d upsample_trilinear3d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa reflection_pad1d reflection_pad2d reflection_pad3d "
    "replication_pad1d replication_pad2d replication_pad3d "
    "adaptive_max_pool3d max_unpool2d max_unpool3d _upsample_nearest_exact3d"
)
BATCH_NORMS = (
    "native_batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit cudnn_batch_norm batch_norm "
    "miopen_batch_norm _batch_norm_no_update _batch_norm_with_update"
)

RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {f"aten.{name}": total for name in ("sum", "nansum")}
    | {f"aten.{name}": norm for name in NORMS.split()}
    | {f"aten.{name}": statistic for name in STATISTICS.split()}
    | {f"aten.{name}": along for name in ALONG.split()}
    | {f"aten.{name}": fourier for name in ("_fft_c2c", "_fft_r2c", "_fft_c2r")}
    | {f"aten.{name}": pooling for name in POOLS.split()}
    | {f"aten.{name}": batch_norm for name in BATCH_NORMS.split()}
    | {f"aten.{name}": layer_norm for name in LAYER_NORMS.split()}
    | {"aten.native_group_norm": group_norm, "aten.tril": triangle, "aten.triu": triangle}
    | {"aten._weight_norm_interface": weight_norm, "aten.affine_grid_generator": grid}
    | {f"aten.grid_sampler_{n}d": sampled for n in (2, 3)}
)
