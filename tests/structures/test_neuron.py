from __future__ import annotations

import torch
from torch import Tensor, nn

from secateurs.graph import trace
from secateurs.structures.neuron import Neuron


class Gated(nn.Module):
    """A gated feed-forward layer between two plain ones."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.gate, self.up = nn.Linear(4, 6), nn.Linear(6, 10, bias=False), nn.Linear(6, 10, bias=False)
        self.down = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x).tanh()
        y: Tensor = self.down(nn.functional.silu(self.gate(x)) * self.up(x))
        return y


def test_both_halves_of_a_gated_layer_are_one_group() -> None:
    found = Neuron()(trace(Gated(), (torch.randn(2, 4),)))
    carriers = [[(m.tensor, m.dims) for m in group.members] for group in found]
    assert carriers == [
        [("inner.weight", (0,)), ("inner.bias", (0,)), ("gate.weight", (1,)), ("up.weight", (1,))],
        [("gate.weight", (0,)), ("up.weight", (0,)), ("down.weight", (1,))],
    ]
    assert [(g.n_units, g.block, len(g.dims), g.removable) for g in found] == [(6, 6, 1, True), (10, 10, 1, True)]


def test_keep() -> None:
    network = trace(Gated(), (torch.randn(2, 4),))
    first, second = Neuron()(network)
    assert [g.name for g in Neuron(keep=(first.name,))(network)] == [second.name]


def test_nothing_to_find_in_a_single_layer() -> None:
    assert Neuron()(trace(nn.Linear(4, 3), (torch.randn(2, 4),))) == ()
