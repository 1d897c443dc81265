from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from torch import nn

from secateurs.measures.macs import Macs
from secateurs.types import SecateursError

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "counting.py"


def _nets():
    spec = spec_from_file_location("counting", BENCHMARK)
    module = module_from_spec(spec)
    sys.modules["counting"] = module
    spec.loader.exec_module(module)
    return module.NETS


NETS = _nets()
FROM_TRANSFORMERS = {"bert", "vit", "gpt2", "llama", "mixtral"}


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.__name__)
def test_equals_hand_arithmetic(running, net):
    if net.__name__ in FROM_TRANSFORMERS:
        pytest.importorskip("transformers")
    _, model, inputs, hand = net()
    task = running(**inputs) if isinstance(inputs, dict) else running(*inputs)
    reading = Macs()(model, task)
    assert reading.value == hand
    assert (reading.unit, reading.how, reading.source) == ("MAC", "counted", "FlopCounterMode")
    assert "not counted" not in reading.note


def test_zeros_in_a_dense_tensor_save_nothing(running):
    model = nn.Linear(8, 4)
    before = Macs()(model, running(torch.randn(2, 8))).value
    nn.init.zeros_(model.weight)
    assert Macs()(model, running(torch.randn(2, 8))).value == before == 64


def test_says_what_it_could_not_count(running):
    class Distances(nn.Module):
        def __init__(self):
            super().__init__()
            self.centres = nn.Parameter(torch.randn(30, 8))

        def forward(self, x):
            return torch.cdist(x, self.centres)

    reading = Macs()(Distances(), running(torch.randn(30, 8)))
    assert reading.value == 0
    assert "not counted: aten._euclidean_dist" in reading.note


def test_refuses_inputs_the_model_cannot_take(running):
    with pytest.raises(SecateursError, match=r"fails on the example inputs: .*shapes"):
        Macs()(nn.Linear(8, 4), running(torch.randn(2, 7)))
