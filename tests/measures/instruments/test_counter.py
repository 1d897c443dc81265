from __future__ import annotations

import pytest
import torch
from torch import nn

from secateurs.measures.instruments.counter import count_macs
from secateurs.types import SecateursError


def test_says_which_operator_did_what():
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten(), nn.Linear(32, 5))
    count = count_macs(model, (torch.zeros(1, 2, 10),))
    assert count.by_operator == {"aten.convolution": 8 * 4 * 2 * 3, "aten.addmm": 160}
    assert count.executed == sum(count.by_operator.values())


def test_shared_layers_count_as_often_as_they_run():
    layer = nn.Linear(6, 6)
    assert count_macs(nn.Sequential(layer, layer, layer), (torch.zeros(2, 6),)).executed == 3 * 72


def test_tied_embedding_counts_where_it_multiplies():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(10, 4)

        def forward(self, ids):
            return self.table(ids) @ self.table.weight.t()

    model = Tied()
    model.table.weight.data.fill_(1.0)
    model.table.weight.data[:5] = 0
    count = count_macs(model, (torch.tensor([[1, 2, 3]]),))
    assert (count.executed, count.nominal, count.uncounted) == (120, 60, ())


def test_bias_of_zeros_is_no_saving():
    model = nn.Linear(4, 4)
    nn.init.ones_(model.weight)
    nn.init.zeros_(model.bias)
    assert count_macs(model, (torch.zeros(2, 4),)).nominal == 32

    class Added(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(2, 4))

        def forward(self, x):
            return torch.addmm(self.bias, x, x.t() @ x)

    assert count_macs(Added(), (torch.ones(2, 4),)).nominal == 2 * 2 * 16


def test_operators_of_others_are_named():
    @torch.library.custom_op("secateurs_test::scan", mutates_args=())
    def scan(x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(0)

    class Scanning(nn.Module):
        def forward(self, x):
            return scan(x)

    count = count_macs(Scanning(), (torch.zeros(3),))
    assert count.uncounted == ("secateurs_test.scan",)
    assert count.missed == "; not counted: secateurs_test.scan"


def test_moving_and_normalising_is_not_suspected():
    class Moves(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 6))

        def forward(self, x):
            w = self.weight.t().contiguous().to(torch.float64).float()
            w = torch.cat([w, self.weight.t()]).softmax(0)[:6] + torch.nn.functional.layer_norm(self.weight, (6,)).t()
            return x @ w

    assert count_macs(Moves(), (torch.zeros(2, 6),)).uncounted == ()


def test_fast_path_is_back_after_an_error():
    with pytest.raises(SecateursError, match="fails on the example inputs"):
        count_macs(nn.Linear(4, 4), (torch.zeros(3),))
    assert torch.backends.mha.get_fastpath_enabled()
