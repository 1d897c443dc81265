from __future__ import annotations

import torch
from torch import nn

from secateurs.biases import known, lacking
from secateurs.graph import trace
from secateurs.repair import Biased, bias_
from secateurs.structures.neuron import Neuron


def chain() -> nn.Module:
    layers = (
        nn.Linear(4, 6, bias=False),
        nn.ReLU(),
        nn.Linear(6, 5, bias=False),
        nn.ReLU(),
        nn.Linear(5, 3, bias=False),
    )
    return nn.Sequential(*layers)


def test_layers_that_lose_inputs_and_keep_their_outputs_lack_one() -> None:
    model = chain()
    groups = Neuron()(trace(model, (torch.randn(2, 4),)))
    assert len(groups) == 2
    assert lacking(model, groups) == (Biased("4", 3),)  # the second loses outputs too


def test_the_trace_with_them_is_that_of_the_network_with_them() -> None:
    model, inputs = chain(), (torch.randn(2, 4),)
    before = trace(model, inputs)
    added = lacking(model, Neuron()(before))
    bias_(model, added)
    after, told = trace(model, inputs), known(before, added)
    assert told.parameters() == after.parameters() == before.parameters() + 3
    assert told.tensors["4.bias"] == told.tensors["4.weight"][:1]


def test_a_layer_with_a_bias_or_with_no_place_for_one_lacks_none() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    assert lacking(model, Neuron()(trace(model, (torch.randn(2, 4),)))) == ()
    del model[2].bias
    assert lacking(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Bilinear(6, 6, 3)), ()) == ()
