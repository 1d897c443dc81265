"""Operators that take positions of a dim by their numbers: one, a stretch, every second, or all of them apart."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from secateurs.graph.axes import Axis, MisalignedError, Node, cut, freeze, size_of, split
from secateurs.graph.trace import Call, Rule

BY_NUMBER = "one of its positions is picked by number"
APART = "its positions are taken apart"


def select(call: Call) -> None:
    """One position of a dim by its number: the dim is told apart position by position, unless it was picked by rank."""
    source = call.inputs()[0]
    label = call.label(source)
    dim = call.arg(1, "dim", 0) % source.dim()
    if not call.trace.picks.take(label.axes[dim], call.args[2]):
        call.trace.picks.tell(label.axes[dim], BY_NUMBER)
    call.give([axis for d, axis in enumerate(label.axes) if d != dim], label.dirty)
    _be_part(call, dim)


def unbind(call: Call) -> None:
    """All positions of one dim, one tensor each."""
    source = call.inputs()[0]
    label = call.label(source)
    dim = call.arg(1, "dim", 0) % source.dim()
    call.trace.picks.tell(label.axes[dim], APART)
    for out in call.outputs():
        call.give([axis for d, axis in enumerate(label.axes) if d != dim], label.dirty, out)
    _be_part(call, dim)


def _be_part(call: Call, dim: int) -> None:
    """One matrix of a stack, as that of an expert, is a part of it."""
    origin = call.origin(call.inputs()[0])
    if origin is not None and len(origin.shape) > 2:
        order = tuple(axis for d, axis in enumerate(origin.order) if d != dim)
        for out in call.outputs():
            call.trace.origins[out] = replace(origin, order=order, viewed=True)


def slice_(call: Call) -> None:
    """A stretch of a dim refines it to a sum; every second position refines it to a product with 2."""
    source, out = call.inputs()[0], call.outputs()[0]
    label = call.label(source)
    dim = call.arg(1, "dim", 0) % source.dim()
    size, step = source.shape[dim], call.arg(4, "step", 1)
    start = call.arg(2, "start") or 0
    start = min(max(start + size if start < 0 else start, 0), size)
    axis = label.axes[dim]
    taken: Axis
    try:
        if out.shape[dim] == 1 and call.trace.picks.is_listed(axis):
            call.trace.picks.tell(axis, BY_NUMBER)
            taken = ()
        elif step == 1:
            _, tail = cut(axis, start)
            taken, _ = cut(tail, out.shape[dim])
        elif size % step == 0 and start < step and out.shape[dim] == size // step:
            lead, trail = split(axis, size // step)
            freeze((trail,), "its positions are taken apart by a stride")
            taken = (lead,)
        else:
            raise MisalignedError
    except MisalignedError:
        freeze(axis, f"{call.name} cuts across it")
        taken = (Node(out.shape[dim], f"{call.name} cuts across it"),)
    axes = [*label.axes[:dim], taken, *label.axes[dim + 1 :]]
    call.give(axes, label.dirty, out)


def split_(call: Call) -> None:
    """Consecutive stretches of one dim."""
    source = call.inputs()[0]
    label = call.label(source)
    dim = call.arg(2, "dim", 0) % source.dim()
    rest = label.axes[dim]
    if call.trace.picks.is_listed(rest) and all(out.shape[dim] == 1 for out in call.outputs()):
        call.trace.picks.tell(rest, APART)
        for out in call.outputs():
            call.give([*label.axes[:dim], (), *label.axes[dim + 1 :]], label.dirty, out)
        return
    for out in call.outputs():
        try:
            taken, rest = cut(rest, out.shape[dim])
        except MisalignedError:
            freeze(label.axes[dim], f"{call.name} cuts across it")
            taken = (Node(out.shape[dim], f"{call.name} cuts across it"),)
            rest = (Node(size_of(rest) - out.shape[dim], f"{call.name} cuts across it"),)
        call.give([*label.axes[:dim], taken, *label.axes[dim + 1 :]], label.dirty, out)


RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {"aten.select": select, "aten.unbind": unbind, "aten.slice": slice_}
    | {f"aten.{name}": split_ for name in ("split", "split_with_sizes")}
    | {f"aten.unsafe_{name}": split_ for name in ("split", "split_with_sizes", "chunk")}
)
