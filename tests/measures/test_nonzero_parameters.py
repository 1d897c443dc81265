from __future__ import annotations

from torch import nn

from secateurs.measures.nonzero_parameters import NonzeroParameters
from secateurs.measures.parameters import Parameters


def test_counts_what_is_not_zero(running):
    model = nn.Linear(8, 4)
    model.weight.data[1] = 0
    model.bias.data[1] = 0
    reading = NonzeroParameters()(model, running())
    assert (reading.value, reading.unit, reading.how) == (36 - 9, "parameters", "counted")
    assert Parameters()(model, running()).value == 36


def test_tied_weights_count_once(running):
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10, bias=False))
    model[1].weight = model[0].weight
    model[0].weight.data[0] = 0
    assert NonzeroParameters()(model, running()).value == 36


def test_sparse_layouts_count_their_entries(running):
    model = nn.ParameterList([nn.Parameter(nn.init.eye_(nn.Linear(6, 6).weight.data).to_sparse())])
    assert NonzeroParameters()(model, running()).value == 6
    assert Parameters()(model, running()).value == 6
