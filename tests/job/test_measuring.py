"""Every measure is taken, of both networks alike, and one that cannot be taken says so."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from secateurs.job.measuring import Settings, compare, final, measure_named, readings
from secateurs.job.opening import TaskName
from secateurs.measures.accuracy import Accuracy
from secateurs.measures.energy import Energy
from secateurs.tasks.image_classification import Images, image_classification
from secateurs.types import SecateursError, Task

SHORT = Settings(latency_seconds=0.05, energy_seconds=0.02)
ALL = {"accuracy", "parameters", "nonzero_parameters", "macs", "latency", "energy", "memory", "size"}


@pytest.fixture
def task() -> Task:
    images = Images(torch.randn(12, 1, 4, 4), torch.arange(12) % 3)
    return image_classification("twelve", {"train": images, "select": images, "final": images})


def _net(hidden: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, hidden), nn.ReLU(), nn.Linear(hidden, 3)).eval()


def _no_meter(*_: object) -> None:
    raise SecateursError("energy cannot be read: no meter")


def test_readings_are_all_there_quality_first(task: Task) -> None:
    found = readings(_net(8), task, SHORT)
    assert set(found) == ALL
    assert next(iter(found)) == "accuracy"
    assert all(name == it.measure for name, it in found.items())
    assert found["parameters"].value == 16 * 8 + 8 + 8 * 3 + 3


def test_a_smaller_network_counts_less(task: Task) -> None:
    found = compare(_net(64), _net(16), task, SHORT)
    assert set(found.dense) == set(found.pruned) == ALL
    assert found.ratio("macs") == pytest.approx(0.25)
    assert found.paired["latency"].spread is not None
    assert found.ratio("latency") == found.paired["latency"].value


def test_energy_without_a_meter_is_not_a_number_and_says_why(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Energy, "__call__", _no_meter)
    monkeypatch.setattr(Energy, "both", _no_meter)
    alone = readings(_net(8), task, SHORT)
    both = compare(_net(8), _net(8), task, SHORT)
    assert math.isnan(alone["energy"].value)
    assert both.ratio("energy") is None
    assert "energy: energy cannot be read: no meter" in both.notes


def test_quality_is_read_on_the_final_split(task: Task) -> None:
    from dataclasses import replace

    assert final(replace(task, quality=Accuracy(split="select"))) == Accuracy(split="final")


def test_without_a_task_there_is_nothing_to_measure() -> None:
    with pytest.raises(SecateursError, match="give --task"):
        measure_named(("os:getcwd", None), None)
    with pytest.raises(SecateursError, match="no directory or file 'nowhere': give that of a model"):
        measure_named(("nowhere", None), None)
    with pytest.raises(SecateursError, match="no task"):
        measure_named(("secateurs.tasks.mnist:conv_net", None), TaskName("nothing"))
