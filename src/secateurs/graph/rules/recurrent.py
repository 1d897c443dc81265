"""Operators that carry a hidden state along a sequence in one piece: a layer of an LSTM, packing by lengths.

Most recurrent networks run step by step in operators that have rules of their own (matrix products, splits, sigmoids).
A unit that was removed stays zero in all of them: its gates see zeros, so its candidate is tanh(0) = 0 and so is its
state, if it began with zero.
"""

from __future__ import annotations

from types import MappingProxyType

from secateurs.graph.axes import Axis, Node, concatenation, freeze, leaves, tag, unify
from secateurs.graph.rules.contraction import note_weight, sum_over
from secateurs.graph.trace import Call, Rule

SEQUENCE = "a position of the sequence"


def lstm_layer(call: Call) -> None:
    """One direction of one layer: the hidden units are the four gates' rows, and what each step contracts."""
    x, w_input, w_hidden, b_input, b_hidden, h, c = call.args[:7]
    biases = (b_input, b_hidden) if call.args[12] else ()
    steps, batch, features = call.axes(x)
    hidden = call.axes(h)[-1]
    reason = f"{call.name} meets it in two arrangements"
    unify(hidden, call.axes(w_hidden)[1], reason)
    unify(hidden, call.axes(c)[-1], reason)
    gates = concatenation([hidden] * 4)
    for tensor in (w_input, w_hidden, *biases):
        unify(gates, call.axes(tensor)[0], reason)
    sum_over(call, x, features, w_input, call.axes(w_input)[1])
    tag((*features, *hidden), "linear")
    freeze(steps, SEQUENCE)
    for state in (h, c):
        unify(batch, call.axes(state)[0], reason)
    call.contract(steps, batch, gates, features, weight=note_weight(call, w_input, (1,)))
    call.contract(steps, batch, gates, hidden, weight=note_weight(call, w_hidden, (1,)))
    stale = call.dirty(h, c, w_input, w_hidden, *biases) & frozenset(leaves(hidden))
    freeze(stale, f"{call.name} begins where its entries are not zero")
    dirty = frozenset(leaves((*steps, *batch)))
    out, h_last, c_last, *rest = call.outputs()
    call.give([steps, batch, hidden], dirty, out)
    for state in (h_last, c_last):
        call.give([batch, hidden], dirty, state)
    for extra in rest:
        call.give([(Node(n, "a space to work in"),) for n in extra.shape], out=extra)


def packed(call: Call) -> None:
    """Sequences of several lengths, one after another: their positions and the batch's are mixed, features pass."""
    source, *_ = call.inputs()
    axes = call.axes(source)
    for axis in axes[:2]:
        freeze(axis, "sequences are packed by their lengths")
    out, lengths = call.outputs()
    rows: Axis = (Node(out.shape[0], "sequences are packed by their lengths"),)
    call.give([rows, *axes[2:]], call.dirty(source), out)
    call.give([(Node(n, "sequences are packed by their lengths"),) for n in lengths.shape], out=lengths)


RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {"aten.mkldnn_rnn_layer": lstm_layer, "aten._pack_padded_sequence": packed}
)
