from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from graph.rules.tracing import see

X = torch.randn(3, 5, 4)

NETWORKS = [
    *(
        partial(kind, 4, 6, batch_first=True, **settings)
        for kind in (nn.LSTM, nn.GRU, nn.RNN)
        for settings in ({}, {"num_layers": 2, "bidirectional": True}, {"bias": False})
    ),
    partial(nn.RNN, 4, 6, nonlinearity="relu", batch_first=True),
]


@pytest.mark.parametrize("build", NETWORKS, ids=str)
def test_the_hidden_units_of_all_layers_and_directions_shrink_together(build: partial[nn.RNNBase]) -> None:
    layer = build()
    width = 12 if layer.bidirectional else 6
    it = see(lambda self, x: self.b(self.a(x)[0]), X, a=layer, b=nn.Linear(width, 2))
    assert it.graph.unknown == frozenset()
    assert len(it.proven()) == 1
    assert it.same(("a.weight_ih_l0", 0), ("a.weight_hh_l0", 0))
    assert set(it.free("b.weight", 1)) == {6}


def test_an_lstm_counts_the_products_of_its_gates() -> None:
    it = see(lambda self, x: self.a(x)[0], X, a=nn.LSTM(4, 6, batch_first=True))
    assert it.graph.macs() == 3 * 5 * 24 * (4 + 6)
    assert {weight.name for weight in it.graph.weights} == {"a.weight_ih_l0", "a.weight_hh_l0"}


def test_what_an_lstm_reads_shrinks() -> None:
    it = see(lambda self, x: self.a(torch.relu(self.i(x)))[0], X, i=nn.Linear(4, 7), a=nn.LSTM(7, 6, batch_first=True))
    assert it.free("i.weight") == [7]
    assert it.proven()


def test_a_sum_over_what_an_lstm_made_of_zeros_is_free() -> None:
    it = see(lambda self, x: self.a(x)[0].sum(-1), X, a=nn.LSTM(4, 6, batch_first=True))
    assert it.proven() and it.free("a.weight_hh_l0", 1) == [6]


def from_state(self: Any, x: Tensor, state: Tensor | None = None) -> Tensor:
    state = self.h.expand(-1, len(x), -1).contiguous() if state is None else state
    out: Tensor = self.a(x, (state, torch.zeros_like(state)))[0]
    return out


def test_a_learned_first_state_shrinks_with_the_units() -> None:
    it = see(from_state, X, a=nn.LSTM(4, 6, batch_first=True), h=nn.Parameter(torch.randn(1, 1, 6)))
    assert it.same(("h", 2), ("a.weight_hh_l0", 1))


def test_a_first_state_that_is_given_freezes_the_units() -> None:
    it = see(from_state, X, torch.randn(1, 3, 6), a=nn.LSTM(4, 6, batch_first=True))
    assert it.reason("a.weight_hh_l0", 1) == "an input of the model"


def test_a_first_state_that_is_not_zero_freezes_the_units() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        state = torch.sigmoid(self.h).expand(-1, len(x), -1).contiguous()
        return self.b(self.a(x, (state, torch.zeros_like(state)))[0])  # type: ignore[no-any-return]

    layers = {"a": nn.LSTM(4, 6, batch_first=True), "b": nn.Linear(6, 2), "h": nn.Parameter(torch.randn(1, 1, 6))}
    assert "not zero" in see(forward, X, **layers).reason("h", 2)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_the_projection_of_an_lstm_and_its_units_shrink_each_by_itself() -> None:
    it = see(lambda self, x: self.b(self.a(x)[0]), X, a=nn.LSTM(4, 6, 2, True, True, proj_size=3), b=nn.Linear(3, 2))
    assert sorted([*it.free("a.weight_hr_l0", 0), *it.free("a.weight_hr_l0", 1)]) == [3, 6]
    assert len(it.proven()) == 2


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_the_units_of_a_cell_shrink(kind: type[nn.RNNCellBase]) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.a(step, state)
        return self.b(state[0] if isinstance(state, tuple) else state)  # type: ignore[no-any-return]

    it = see(forward, X, a=kind(4, 6), b=nn.Linear(6, 2))
    assert it.proven() and it.free("b.weight", 1) == [6]


def test_packed_sequences_pass_their_features() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        packed = pack_padded_sequence(torch.relu(self.i(x)), torch.tensor([5, 3, 2]), batch_first=True)
        return self.b(pad_packed_sequence(self.a(packed)[0], batch_first=True)[0])  # type: ignore[no-any-return]

    it = see(forward, X, i=nn.Linear(4, 7), a=nn.LSTM(7, 6, batch_first=True), b=nn.Linear(6, 2))
    assert "aten._pack_padded_sequence" not in it.graph.unknown
    assert it.free("i.weight") == [7] and it.free("b.weight", 1) == [6]
    assert len(it.proven()) == 2
