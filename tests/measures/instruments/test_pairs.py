from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from secateurs.measures.instruments import pairs
from secateurs.measures.instruments.clock import Lap
from secateurs.measures.instruments.pairs import Pairs, ratio
from secateurs.types import SecateursError

X = (torch.zeros(1, 4),)


class Simulated:
    """A stopwatch on a made-up machine: the model says how slow it is, the machine drifts and stutters.

    ``copy_slower`` makes the baseline's copy slower than the baseline, as a broken method of timing would.
    """

    noise, copy_slower = 0.05, 1.0

    def __init__(self, model, inputs, batch_size=None):
        self.calls = 1
        self.seconds = model.seconds * (self.copy_slower if model.copies else 1.0)
        self.random = np.random.default_rng(int(model.seconds * 1e6) + 7 * model.copies)

    clock = 0

    def lap(self):
        Simulated.clock += 1
        drift = 1 + 0.5 * np.sin(Simulated.clock / 300)
        cpu = self.seconds * drift * self.random.lognormal(0, self.noise)
        return Lap(wall=cpu * (1 + self.random.exponential(2.0)), cpu=cpu)


class Slow(nn.Module):
    """Takes this many seconds on the simulated machine."""

    def __init__(self, seconds, copies=0):
        super().__init__()
        self.seconds, self.copies = seconds, copies

    def __deepcopy__(self, memo):
        return Slow(self.seconds, self.copies + 1)


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setattr(pairs, "Stopwatch", Simulated)
    monkeypatch.setattr(Simulated, "clock", 0)
    return Simulated


@pytest.mark.parametrize(("seconds", "verdict"), [(0.008, "faster"), (0.0125, "slower"), (0.01, "inconclusive")])
def test_finds_the_ratio_through_noise_and_drift(machine, seconds, verdict):
    found = ratio(Slow(0.01), Slow(seconds), X)
    assert found.verdict == verdict
    assert found.ratio.value == pytest.approx(seconds / 0.01, rel=0.04)
    assert found.ratio.spread[0] <= seconds / 0.01 * 1.01
    assert found.ratio.spread[1] >= seconds / 0.01 * 0.99
    assert found.control.spread[0] <= 1.01
    assert found.control.spread[1] >= 0.99
    assert found.pairs == found.ratio.samples == found.control.samples
    assert (found.ratio.measure, found.control.measure, found.wall.measure) == (
        "latency_ratio",
        "latency_control",
        "latency_ratio_wall",
    )
    assert found.ratio.source == "process CPU time, cpu, 1 thread"
    assert found.model.value / found.baseline.value == pytest.approx(found.ratio.value, rel=0.1)


def test_stops_when_narrow_and_not_before(machine, monkeypatch):
    noisy = ratio(Slow(0.01), Slow(0.008), X)
    monkeypatch.setattr(machine, "noise", 0.001)
    quiet = ratio(Slow(0.01), Slow(0.008), X)
    assert quiet.pairs == pairs.FEWEST < noisy.pairs < 1000
    for found in (noisy, quiet):
        low, high = found.ratio.spread
        assert (high - low) / 2 <= 0.02 * found.ratio.value * 1.05
        assert found.ratio.note is None


def test_a_budget_too_small_is_said(machine, monkeypatch):
    monkeypatch.setattr(machine, "noise", 0.5)
    found = ratio(Slow(0.01), Slow(0.009), X, Pairs(max_pairs=12))
    assert found.pairs == 12
    assert found.verdict == "inconclusive"
    assert "wider than" in found.ratio.note


def test_a_control_that_fails_spoils_every_verdict(machine, monkeypatch):
    monkeypatch.setattr(machine, "copy_slower", 1.2)
    found = ratio(Slow(0.01), Slow(0.005), X)
    assert found.verdict == "inconclusive"
    assert "the baseline against itself gives 1.2" in found.ratio.note


def test_a_bias_of_the_control_is_not_a_gain(machine, monkeypatch):
    monkeypatch.setattr(machine, "noise", 0.001)
    monkeypatch.setattr(machine, "copy_slower", 0.985)
    assert ratio(Slow(0.01), Slow(0.00985), X).verdict == "inconclusive"
    assert ratio(Slow(0.01), Slow(0.0095), X).verdict == "faster"


def test_false_alarms_are_rare(machine, monkeypatch):
    monkeypatch.setattr(machine, "noise", 0.03)
    verdicts = [ratio(Slow(0.01 + i * 1e-6), Slow(0.01 + i * 1e-6), X).verdict for i in range(20)]
    assert verdicts.count("inconclusive") >= 19


def test_order_is_drawn_anew_in_each_round_and_repeats_by_seed():
    class Noting:
        def __init__(self, name, log):
            self.name, self.log = name, log

        def lap(self):
            self.log.append(self.name)
            return Lap(1.0, 1.0)

    def order(seed):
        log = []
        pairs._interleaved(tuple(Noting(n, log) for n in "abc"), "cpu", Pairs(seed=seed))
        return ["".join(log[i : i + 3]) for i in range(0, len(log), 3)]

    assert order(0) == order(0) != order(1)
    assert all(sorted(trio) == ["a", "b", "c"] for trio in order(0))
    assert len(set(order(0))) > 2


def test_real_models_and_a_larger_batch():
    baseline = nn.Sequential(nn.Linear(4, 64), nn.Dropout(), nn.Linear(64, 2))
    seen = []
    baseline.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    found = ratio(baseline, nn.Linear(4, 2), X, Pairs(batch_size=5, max_seconds=0.2))
    assert set(seen) == {5}
    assert found.pairs >= pairs.FEWEST
    assert min(found.baseline.value, found.model.value, found.wall.value) > 0
    assert baseline.training


def test_refuses_what_cannot_be_compared():
    with pytest.raises(SecateursError, match="baseline lies on cpu and the model on meta"):
        ratio(nn.Linear(4, 2), nn.Linear(4, 2, device="meta"), X)
    with pytest.raises(SecateursError, match="max_pairs is 5"):
        Pairs(max_pairs=5)
    with pytest.raises(SecateursError, match="above 0"):
        Pairs(half_width=0)
    stuck = nn.Linear(4, 2)
    stuck.held = (i for i in range(3))
    with pytest.raises(SecateursError, match="cannot be copied for the control"):
        ratio(stuck, nn.Linear(4, 2), X)
