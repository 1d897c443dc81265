"""Operators that move positions and change none: views, permutations, expansion, concatenation, padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from operator import mul
from types import MappingProxyType

from torch import Tensor

from secateurs.graph.axes import Axis, MisalignedError, Node, concatenation, cut, freeze, regroup, size_of, split, unify
from secateurs.graph.trace import Call, Rule


def view(call: Call) -> None:
    """The same positions in row-major order under other sizes; what it cuts across is frozen, what is beside passes."""
    source, out = call.inputs()[0], call.outputs()[0]
    label = call.label(source)
    axes: list[Axis] = []
    origin = call.origin(source)
    order: list[int] | None = None if origin is None else []
    before = [size_of(axis) for axis in label.axes]
    for dims, sizes in _blocks(before, out.shape):
        taken = [label.axes[d] for d in dims]
        try:
            axes += regroup(taken, sizes)
        except MisalignedError:
            reason = f"{call.name} cuts across it"
            freeze([node for axis in taken for node in axis], reason)
            axes += [(Node(n, reason),) for n in sizes]
        if origin is not None and order is not None:
            held = [origin.order[d] for d in dims if before[d] > 1]
            order = None if len(held) > 1 else [*order, *(held[0] if n > 1 else -1 for n in sizes)]
    call.give(axes, label.dirty, out)
    if origin is not None and order is not None:
        call.trace.origins[out] = replace(origin, order=tuple(order), viewed=True)


def _blocks(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """The shortest stretches of old dimensions and new sizes that hold the same number of positions."""
    held, made = (list(accumulate(numbers, mul)) for numbers in (before, after))
    ends = sorted({*held} & {*made})
    if not ends or not ends[0]:
        yield range(len(before)), after
        return
    for start, end in pairwise([0, *ends]):
        taken = [d for d, n in enumerate(held) if start < n <= end]
        yield taken, [size for size, n in zip(after, made, strict=True) if start < n <= end]


def permuted(call: Call, order: Sequence[int]) -> None:
    """Dimension i of the output is dimension ``order[i]`` of the input."""
    source, out = call.inputs()[0], call.outputs()[0]
    label = call.label(source)
    call.give([label.axes[d] for d in order], label.dirty, out)
    origin = call.origin(source)
    if origin is not None:
        call.trace.origins[out] = replace(origin, order=tuple(origin.order[d] for d in order))


def permute(call: Call) -> None:
    """Dims in a given order."""
    n = call.inputs()[0].dim()
    permuted(call, [d % n for d in call.args[1]])


def transpose(call: Call) -> None:
    """Two dims change places."""
    n = call.inputs()[0].dim()
    order = list(range(n))
    a, b = (call.args[1] % n, call.args[2] % n) if len(call.args) > 2 else (0, n - 1)
    order[a], order[b] = order[b], order[a]
    permuted(call, order)


def expand(call: Call) -> None:
    """Copies along an expanded dim are a fresh dim: grouped queries come out as (key-value heads) x (queries each)."""
    source, out = call.inputs()[0], call.outputs()[0]
    label = call.label(source)
    axes: list[Axis] = []
    fresh: list[Node] = []
    for i, size in enumerate(out.shape):
        at = i - out.dim() + source.dim()
        if at >= 0 and source.shape[at] == size:
            axes.append(label.axes[at])
        else:
            fresh.append(Node(size, events={"expanded"}))
            axes.append((fresh[-1],))
    call.give(axes, (*label.dirty, *fresh), out)
    origin = call.origin(source)
    if origin is not None:
        more = out.dim() - source.dim()
        call.trace.origins[out] = replace(origin, order=(*[-1] * more, *origin.order), viewed=True)


def repeat(call: Call) -> None:
    """Tiling: each dim is (copies) x (what was there)."""
    source, out = call.inputs()[0], call.outputs()[0]
    label = call.label(source)
    axes: list[Axis] = []
    fresh: list[Node] = []
    for i, times in enumerate(call.args[1]):
        at = i - out.dim() + source.dim()
        fresh.append(Node(times, events={"expanded"}))
        axes.append((fresh[-1], *(label.axes[at] if at >= 0 else ())))
    call.give(axes, (*label.dirty, *fresh), out)


def cat(call: Call) -> None:
    """A sum along one dim; the other dims are unified."""
    tensors: list[Tensor] = [t for t in call.args[0] if t.numel() or t.dim() > 1]
    dim = call.arg(1, "dim", 0) % tensors[0].dim()
    first = call.axes(tensors[0])
    for tensor in tensors[1:]:
        for d, axis in enumerate(call.axes(tensor)):
            if d != dim:
                unify(first[d], axis, f"{call.name} meets it in two arrangements")
    axes, dirty = list(first), call.dirty(*tensors)
    if all(tensor.shape[dim] == 1 for tensor in tensors) and len(tensors) in call.trace.picks.listed:
        axes[dim], dirty = _side_by_side(call, tensors)
    else:
        axes[dim] = concatenation([call.axes(t)[dim] for t in tensors])
    call.give(axes, dirty)


def _side_by_side(call: Call, tensors: Sequence[Tensor]) -> tuple[Axis, frozenset[Node]]:
    """A dim with a tensor for each position, of which nobody knows whether it is zero; and what is dirty then."""
    node = Node(len(tensors))
    call.trace.picks.tell((node,), "its positions are stacked one by one")
    return (node,), call.dirty(*tensors) | {node}


def stack(call: Call) -> None:
    """Tensors alike, side by side along a new dim."""
    tensors: list[Tensor] = call.args[0]
    axes = list(call.axes(tensors[0]))
    for tensor in tensors[1:]:
        for mine, other in zip(axes, call.axes(tensor), strict=True):
            unify(mine, other, f"{call.name} meets it in two arrangements")
    dim = call.arg(1, "dim", 0) % (len(axes) + 1)
    axis, dirty = _side_by_side(call, tensors)
    axes.insert(dim, axis)
    call.give(axes, dirty)


def as_complex(call: Call) -> None:
    """Pairs of the last dim become complex numbers."""
    label = call.label(call.inputs()[0])
    freeze(label.axes[-1], "its positions are the parts of complex numbers")
    call.give(label.axes[:-1], label.dirty)


def as_real(call: Call) -> None:
    """Complex numbers become pairs along a new last dim."""
    label = call.label(call.inputs()[0])
    call.give([*label.axes, (Node(2, "its positions are the parts of complex numbers"),)], label.dirty)


def pad(call: Call) -> None:
    """Constant padding is a sum with fixed borders; a negative one cuts."""
    source, amounts = call.inputs()[0], call.args[1]
    label = call.label(source)
    axes = list(label.axes)
    value = call.arg(2, "value", 0) or 0
    for i in range(len(amounts) // 2):
        before, after = amounts[2 * i], amounts[2 * i + 1]
        d = source.dim() - 1 - i
        try:
            first, left = cut(axes[d], max(-before, 0))
            left, last = cut(left, size_of(left) - max(-after, 0))
        except MisalignedError:
            call.give_unknown(f"{call.name} cuts across it")
            return
        freeze((*first, *last), "a constant width of it is cut off")
        sides = [Node(max(n, 0), "a padding of constant width") for n in (before, after)]
        axes[d] = concatenation([(sides[0],), left, (sides[1],)])
    call.give(axes, [node for axis in axes for node in axis] if value else label.dirty)


def pixel_shuffle(call: Call) -> None:
    """Channels are (what stays) x (the pixels of a window), which become spatial positions."""
    source, out = call.inputs()[0], call.outputs()[0]
    label = call.label(source)
    channels = out.dim() - 3
    try:
        stays, window = split(label.axes[channels], out.shape[channels])
    except MisalignedError:
        call.give_unknown(f"{call.name} cuts across it")
        return
    freeze((window, *(node for axis in label.axes[channels + 1 :] for node in axis)), "a spatial position")
    spatial = [(Node(n, "a spatial position"),) for n in out.shape[-2:]]
    call.give([*label.axes[:channels], (stays,), *spatial], label.dirty, out)


def channel_shuffle(call: Call) -> None:
    """Groups of channels become the inner factor: (groups x channels of each) is read the other way round."""
    source = call.inputs()[0]
    label = call.label(source)
    try:
        groups, each = split(label.axes[1], call.args[1])
    except MisalignedError:
        call.give_unknown(f"{call.name} cuts across it")
        return
    call.give([label.axes[0], (each, groups), *label.axes[2:]], label.dirty)


def reordered(call: Call) -> None:
    """Positions of some dims change places; those dims are frozen, the others pass."""
    source = call.inputs()[0]
    label = call.label(source)
    dims = call.arg(2 if "roll" in call.name else 1, "dims", ()) or range(source.dim())
    for d in dims:
        freeze(label.axes[d], f"{call.name} reorders its positions")
    call.give(label.axes, label.dirty)


RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {f"aten.{name}": view for name in ("view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze")}
    | {f"aten.{name}": view for name in ("squeeze_", "unsqueeze_")}
    | {
        "aten.flatten": view,
        "aten.unflatten": view,
        "aten.permute": permute,
        "aten.transpose": transpose,
        "aten.transpose_": transpose,
        "aten.t": transpose,
        "aten.t_": transpose,
        "aten.expand": expand,
        "aten.repeat": repeat,
        "aten.pixel_shuffle": pixel_shuffle,
        "aten.col2im": pixel_shuffle,
        "aten.channel_shuffle": channel_shuffle,
        "aten.native_channel_shuffle": channel_shuffle,
        "aten.cat": cat,
        "aten.view_as_complex": as_complex,
        "aten.view_as_real": as_real,
        "aten.stack": stack,
        "aten.constant_pad_nd": pad,
        "aten.flip": reordered,
        "aten.roll": reordered,
    }
)
