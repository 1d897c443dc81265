from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from secateurs.measures.instruments.clock import SHORTEST_SAMPLE, Stopwatch, deciding, named, synchronise
from secateurs.measures.instruments.forward import inference
from secateurs.types import SecateursError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


class Sleeper(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        time.sleep(self.seconds)
        return x


def test_slow_models_are_called_once_a_sample():
    model = Sleeper(2 * SHORTEST_SAMPLE)
    with inference(model):
        watch = Stopwatch(model, (torch.zeros(1),))
        before = model.calls
        lap = watch.lap()
    assert model.calls == before + 1
    assert lap.wall >= 2 * SHORTEST_SAMPLE > lap.cpu


def test_fast_models_are_repeated_and_read_per_call():
    model = Sleeper(0.0)
    with inference(model):
        watch = Stopwatch(model, (torch.zeros(1),))
        watch.calls = 40
        before = model.calls
        model.seconds = 0.001
        began = time.perf_counter()
        lap = watch.lap()
        whole = time.perf_counter() - began
    assert model.calls == before + 40
    assert 0.001 <= lap.wall <= whole / 40


def test_which_clock_decides():
    assert deciding(CPU, 1) == "cpu"
    assert deciding(CPU, 2) == "wall"
    assert deciding(GPU, 1) == "cuda"
    assert named("cpu", CPU, 1) == "process CPU time, cpu, 1 thread"
    assert named("wall", CPU, 4) == "wall clock, cpu, 4 threads"
    synchronise(CPU)


def test_refuses_a_model_that_fails():
    with pytest.raises(SecateursError, match="fails on the example inputs"):
        Stopwatch(nn.Linear(4, 4), (torch.zeros(1, 3),))
