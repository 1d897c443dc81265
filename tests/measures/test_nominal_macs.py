from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from secateurs.measures.macs import Macs
from secateurs.measures.nominal_macs import NominalMacs


def _both(model, task):
    return Macs()(model, task).value, NominalMacs()(model, task).value


def test_takes_off_the_zeros_of_a_linear_layer(running):
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    model[0].weight.data.fill_(1.0)
    model[0].weight.data[:2] = 0
    assert _both(model, running(torch.randn(3, 8))) == (3 * (32 + 8), 3 * (16 + 8))


def test_takes_off_the_zeros_of_grouped_strided_convolutions(running):
    model = nn.Conv2d(4, 8, 3, groups=2, stride=2)
    model.weight.data.view(8, -1)[:3] = 0
    macs = 2 * 4 * 4 * 8 * 2 * 9
    assert _both(model, running(torch.randn(2, 4, 9, 9))) == (macs, macs * 5 // 8)


def test_looks_at_the_part_of_a_weight_that_is_used(running):
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8, 4))

        def forward(self, x):
            upper, lower = self.weight.chunk(2)
            return F.linear(x, upper), x @ lower.mT @ lower

    model = Fused()
    model.weight.data[:2] = 0
    executed, nominal = _both(model, running(torch.randn(3, 4)))
    assert executed == 3 * 16 * 3
    assert nominal == 3 * (8 + 16 + 16)


def test_recurrent_weights_are_weighed_by_their_size(running):
    model = nn.LSTM(24, 8)
    nn.init.zeros_(model.weight_ih_l0)
    executed, nominal = _both(model, running(torch.randn(5, 2, 24)))
    assert executed == 10 * 32 * (24 + 8)
    assert nominal == 10 * 32 * 8


def test_activations_of_zero_are_not_weights(running):
    model = nn.Linear(8, 4)
    assert _both(model, running(torch.zeros(2, 8))) == (64, 64)


def test_a_sparse_layout_saves_in_deed(running):
    class Product(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight = nn.Parameter(weight)

        def forward(self, x):
            return torch.sparse.mm(self.weight, x)

    assert _both(Product(torch.eye(8).to_sparse()), running(torch.randn(8, 3))) == (24, 24)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_never_above_what_is_executed(running, share):
    model = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    for weight in model.parameters():
        if weight.dim() == 2:
            weight.data.view(-1)[: int(share * weight.numel())] = 0
    executed, nominal = _both(model, running(torch.randn(2, 6, 16)))
    attention = 2 * 2 * 6 * 6 * 16
    assert nominal == attention + (1 - share) * (executed - attention)
