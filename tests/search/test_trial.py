"""One p, evaluated."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from secateurs.graph import trace
from secateurs.measures.instruments.meters import Meter, open_meter
from secateurs.prune import find_groups, unpruned
from secateurs.recipe import Recipe
from secateurs.search import Budget, Configuration
from secateurs.search.bound import Bound
from secateurs.search.costs import Costs
from secateurs.search.trial import Trial
from secateurs.types import Task


@pytest.fixture
def trial(net: nn.Module, task: Task, recipe: Recipe, budget: Budget) -> Trial:
    network = trace(net, task.example_inputs)
    bound = Bound.of(net, task, 0.1, "select")
    return Trial(net, task, recipe, network, bound, Costs(net, task, budget), open_meter("cpu"))


def evaluate(trial: Trial, asked: Configuration) -> Configuration:
    groups = find_groups(trial.model, trial.recipe.structure, trial.network, trial.task.example_inputs)
    return trial(asked, unpruned(trial.model, groups))[0]


def test_a_configuration_is_filled_in(trial: Trial) -> None:
    found = evaluate(trial, Configuration(4, 0.1, False, 7, 3))
    assert (found.number, found.p, found.seed, found.continued) == (4, 0.1, 7, 3)
    assert found.holds and found.reason is None
    assert found.quality is not None and found.quality.value >= trial.bound.limit
    assert found.readings.keys() >= {"macs", "parameters", "latency"}
    assert found.ratio["macs"].value < 1
    assert found.seconds > 0
    if trial.meter.source is not None:
        assert found.spent is not None and found.spent.value > 0 and found.spent.source == trial.meter.source


def test_the_seed_decides(trial: Trial, quick: None) -> None:
    first = evaluate(trial, Configuration(1, 0.3, False, 7))
    torch.rand(3)
    assert evaluate(trial, Configuration(1, 0.3, False, 7)).quality == first.quality
    state = torch.random.get_rng_state()
    evaluate(trial, Configuration(1, 0.3, False, 8))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_bound_that_falls_gives_its_reason(trial: Trial, quick: None) -> None:
    strict = replace(trial, bound=Bound(trial.task, -0.5, "select", trial.bound.dense))
    found = evaluate(strict, Configuration(1, 0.3, False, 1))
    assert not found.holds and found.reason is not None and "is below" in found.reason
    assert found.quality is not None and "macs" in found.readings, "what falls is measured too"


def test_what_cannot_be_pruned_gives_its_reason(trial: Trial, quick: None) -> None:
    found = evaluate(replace(trial, meter=Meter(torch.device("cpu"), None)), Configuration(1, 0.9999, False, 1))
    assert not found.holds and found.reason and found.quality is None and not found.readings
    assert found.spent is None
