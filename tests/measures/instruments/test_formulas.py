from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from secateurs.measures.instruments.counter import count_macs
from secateurs.measures.instruments.formulas import missing


class Run(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def _grouped(x, y):
    return torch._grouped_mm(x, y, offs=torch.tensor([2, 5, 8], dtype=torch.int32))


HALF = {"dtype": torch.bfloat16}
CASES = {
    "mv": (torch.mv, (torch.ones(3, 8), torch.ones(8)), 24),
    "dot": (torch.dot, (torch.ones(8), torch.ones(8)), 8),
    "addmv": (torch.addmv, (torch.ones(3), torch.ones(3, 8), torch.ones(8)), 24),
    "addbmm": (torch.addbmm, (torch.ones(3, 5), torch.ones(2, 3, 8), torch.ones(2, 8, 5)), 2 * 3 * 8 * 5),
    "conv_tbc": (torch.conv_tbc, (torch.ones(5, 2, 4), torch.ones(3, 4, 6), torch.ones(6)), 3 * 2 * 3 * 4 * 6),
    "bilinear": (F.bilinear, (torch.ones(2, 3), torch.ones(2, 4), torch.ones(5, 3, 4)), 2 * 5 * 3 * 4),
    "attention": (F.scaled_dot_product_attention, (torch.ones(2, 4, 6, 8),) * 3, 2 * 2 * 4 * 6 * 6 * 8),
    "causal": (
        lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True),
        (torch.ones(2, 4, 6, 8),),
        2 * 2 * 4 * 6 * 6 * 8,
    ),
    "grouped_queries": (
        lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True),
        (torch.ones(2, 4, 6, 8), torch.ones(2, 2, 6, 8)),
        2 * 2 * 4 * 6 * 6 * 8,
    ),
    "grouped_rows": (_grouped, (torch.ones(8, 16, **HALF), torch.ones(3, 16, 8, **HALF)), 8 * 16 * 8),
    "sparse": (torch.sparse.mm, (torch.eye(8).to_sparse(), torch.ones(8, 3)), 24),
}


@pytest.mark.parametrize("name", CASES)
def test_by_hand(name):
    function, inputs, hand = CASES[name]
    count = count_macs(Run(function), inputs)
    assert count.executed == count.nominal == hand
    assert count.uncounted == ()


def test_only_operators_that_torch_leaves_out():
    from torch.utils.flop_counter import flop_registry

    named = {str(operator) for operator in missing()}
    assert "aten.mkldnn_rnn_layer" in named
    assert named & {str(operator) for operator in flop_registry} == set()
