from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from secateurs.measures.latency import Latency
from secateurs.types import SecateursError


class Sleeper(nn.Module):
    """Takes a known time, more for a larger batch, and computes nothing."""

    def forward(self, x):
        time.sleep(0.001 * len(x))
        return x


def test_reads_the_seconds_of_one_pass(running):
    reading = Latency(max_seconds=0.2)(Sleeper(), running(torch.zeros(3, 2)))
    assert (reading.measure, reading.unit, reading.how) == ("latency", "s", "measured")
    assert reading.value >= 0.003
    assert reading.spread[0] <= reading.value <= reading.spread[1]
    assert reading.samples >= 10
    assert reading.source == "wall clock, cpu, 1 thread"


def test_takes_another_batch_size(running):
    assert Latency(batch_size=7, max_seconds=0.2)(Sleeper(), running(torch.zeros(3, 2))).value >= 0.007


def test_a_wide_interval_is_said(running):
    reading = Latency(half_width=1e-9, max_seconds=0.05)(nn.Linear(4, 4), running(torch.zeros(3, 4)))
    assert "interval wider" in reading.note


def test_refuses_bad_settings(running):
    with pytest.raises(SecateursError, match="above 0"):
        Latency(half_width=0.0)
    with pytest.raises(SecateursError, match="threads is 0"):
        Latency(threads=0)(nn.Identity(), running(torch.zeros(1)))
    with pytest.raises(SecateursError, match="fails on the example inputs"):
        Latency()(nn.Linear(4, 4), running(torch.zeros(1, 3)))
