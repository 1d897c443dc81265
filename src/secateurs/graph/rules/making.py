"""What becomes of numbers made from nothing: where others meet them they get axes of their own, each time anew."""

from __future__ import annotations

from torch import Tensor

from secateurs.graph.axes import Node, leaves
from secateurs.graph.constants import MADE
from secateurs.graph.labels import Label
from secateurs.graph.trace import Call, Rule


def apart(rule: Rule) -> Rule:
    """The rule; where numbers made from nothing meet others in its operator, they have axes of their own in it."""

    def wrapped(call: Call) -> None:
        constants = call.trace.constants
        inputs = call.inputs()
        labels = [call.label(tensor) for tensor in inputs]
        differ = [constants.of(tensor) for tensor in inputs]
        if None not in differ and not constants.sized:
            rule(call)
            for out in call.outputs():
                constants.note(out, any(differ) if inputs else _differs(call.label(out)))
            return
        written = [out for out in call.outputs() if any(out is tensor for tensor in inputs)]
        for tensor, label in ((t, x) for t, x, it in zip(inputs, labels, differ, strict=True) if it):
            _renew(call, tensor, label, pickable=constants.pickable and not written)
        rule(call)
        for out in written:
            constants.written(out)
        for tensor, label in zip(inputs, labels, strict=True):
            if constants.of(tensor):
                call.trace.labels[tensor] = label

    return wrapped


def _differs(made: Label) -> bool:
    return any(leaf.frozen for leaf in made.carried())


def _renew(call: Call, tensor: Tensor, label: Label, pickable: bool) -> None:
    """Where all positions of an axis are copies of one, there may be any number of them."""
    told_apart = [any(leaf.frozen for leaf in leaves(axis)) for axis in label.axes]
    nodes = [Node(n, MADE if told and not pickable else None) for n, told in zip(tensor.shape, told_apart, strict=True)]
    axes = tuple((node,) for node in nodes)
    call.trace.labels[tensor] = Label(axes, frozenset(nodes), label.fixed)
    if pickable:
        call.trace.constants.uses.append((tensor, axes))
