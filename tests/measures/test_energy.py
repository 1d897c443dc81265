from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from secateurs.measures import energy
from secateurs.measures.energy import Energy
from secateurs.measures.instruments.meters import Meter
from secateurs.types import SecateursError


@dataclass
class TenJoules:
    """An instrument that reads ten joules for every stretch."""

    name: str = "test"
    how: str = "measured"
    scope: str = "nothing real"
    windows: int = 0

    def start(self) -> Callable[[], float | None]:
        self.windows += 1
        return lambda: 10.0


@pytest.fixture
def ten(monkeypatch):
    instrument = TenJoules()
    monkeypatch.setattr(energy, "open_meter", lambda device: Meter(torch.device(device), instrument))
    return instrument


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x


def test_joules_over_passes(running, ten):
    model = Counting()
    reading = Energy(seconds=0.05)(model, running(torch.zeros(1)))
    assert reading.samples == model.calls - 1  # one warms up
    assert reading.value == pytest.approx(10.0 / reading.samples)
    assert (reading.unit, reading.how, reading.source) == ("J", "measured", "test")
    assert reading.note.startswith("nothing real; ")


def test_two_models_take_turns_at_one_meter(ten):
    small, large = Counting(), Counting()
    first, second = Energy(seconds=0.05).both(large, small, (torch.zeros(1),))
    assert ten.windows == 4
    assert (first.samples, second.samples) == (large.calls - 2, small.calls - 2)
    assert first.value == pytest.approx(20.0 / first.samples)
    assert first.source == second.source


def test_refuses_without_a_meter(running, monkeypatch):
    monkeypatch.setattr(energy, "open_meter", lambda device: Meter(torch.device(device), None, "none here"))
    with pytest.raises(SecateursError, match=r"none here; pip install 'secateurs\[energy\]'"):
        Energy()(nn.Identity(), running(torch.zeros(1)))


def test_refuses_a_meter_that_fails_and_a_model_that_fails(running, ten, monkeypatch):
    with pytest.raises(SecateursError, match="fails on the example inputs"):
        Energy(seconds=0.01)(nn.Linear(4, 4), running(torch.zeros(1, 3)))
    monkeypatch.setattr(TenJoules, "start", lambda self: lambda: None)
    with pytest.raises(SecateursError, match="meter test failed"):
        Energy(seconds=0.01)(nn.Identity(), running(torch.zeros(1)))


def test_refuses_no_window():
    with pytest.raises(SecateursError, match="above 0"):
        Energy(seconds=0.0)


def test_reads_this_machine(running):
    reading = Energy(seconds=0.3)(nn.Linear(64, 64), running(torch.randn(8, 64)))
    assert reading.value > 0
    assert reading.how == ("modelled" if reading.source == "codecarbon" else "measured")
