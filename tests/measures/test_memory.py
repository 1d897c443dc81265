from __future__ import annotations

import pytest
import torch
from torch import nn

from secateurs.measures.memory import Memory
from secateurs.types import SecateursError


class Steps(nn.Module):
    """Holds two tensors of the input's size at its peak, and gives back one number."""

    def forward(self, x):
        a = x + 1
        b = a * 2
        del a
        c = b - 1
        del b
        return c.sum()


def test_peak_by_hand(running):
    size = 4 * 100 * 1000
    reading = Memory()(Steps(), running(torch.zeros(100, 1000)))
    assert (reading.unit, reading.how, reading.source) == ("B", "measured", "torch profiler")
    assert 2 * size <= reading.value < 2 * size + 4096
    assert 4 * size <= Memory(batch_size=200)(Steps(), running(torch.zeros(100, 1000))).value < 4 * size + 4096


def test_weights_are_in_it_and_it_repeats(running):
    model = nn.Sequential(nn.Linear(300, 1000), nn.ReLU(), nn.Linear(1000, 10))
    weights = 4 * sum(p.numel() for p in model.parameters())
    first, second = (Memory()(model, running(torch.zeros(50, 300))) for _ in range(2))
    assert first == second
    assert first.value - weights == pytest.approx(2 * 4 * 50 * 1000, rel=0.05)
    assert first.note == f"of which weights {weights} B"


def test_leaves_nothing_on_stderr(running, capfd):
    Memory()(nn.Linear(4, 4), running(torch.zeros(2, 4)))
    assert capfd.readouterr() == ("", "")


def test_refuses_what_it_cannot_run(running):
    with pytest.raises(SecateursError, match="fails on the example inputs"):
        Memory()(nn.Linear(4, 4), running(torch.zeros(1, 3)))
    with pytest.raises(SecateursError, match="not on meta"):
        Memory()(nn.Linear(4, 4, device="meta"), running(torch.zeros(1, 4)))
