from __future__ import annotations

import torch
from torch import nn

from secateurs.measures.parameters import Parameters


def test_counts_zeros_and_not_buffers(running):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    nn.init.zeros_(model[0].weight)
    reading = Parameters()(model, running())
    assert (reading.value, reading.unit, reading.how) == (3 * 4 + 4 + 2 * 4, "parameters", "counted")


def test_tied_weights_count_once(running):
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10, bias=False))
    model[1].weight = model[0].weight
    assert Parameters()(model, running()).value == 40
    model[1].weight = nn.Parameter(model[0].weight.detach())  # another name for the same storage
    assert Parameters()(model, running()).value == 40
    model[1].weight = nn.Parameter(model[0].weight.detach().clone())
    assert Parameters()(model, running()).value == 80


def test_parts_of_one_storage_are_parts(running):
    whole = torch.zeros(6, 2)
    model = nn.ParameterList([nn.Parameter(whole[:4]), nn.Parameter(whole[4:])])
    assert Parameters()(model, running()).value == 12


def test_counts_without_memory_behind_it(running):
    assert Parameters()(nn.Linear(3, 4, device="meta"), running()).value == 16
