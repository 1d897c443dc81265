from __future__ import annotations

import copy

import pytest
import torch

from secateurs.criteria.loss_increase import LossIncrease
from secateurs.evidence import scores
from secateurs.graph import trace
from secateurs.structures.neuron import Neuron
from secateurs.testing import example_model, example_task
from secateurs.types import Rows


def test_it_is_the_increase() -> None:
    rows = [Rows(torch.ones(2, 4), loss_increase=torch.tensor([[0.5], [-0.1]])), Rows(torch.ones(2, 1))]
    assert LossIncrease()(rows).tolist() == pytest.approx([0.5, -0.1])


def test_the_loss_without_each_unit_less_the_loss() -> None:
    model, task = example_model().eval(), example_task()
    [group] = Neuron()(trace(model, task.example_inputs))
    before = copy.deepcopy(model.state_dict())
    found = scores(model, [group], LossIncrease(), task, 2)[group.name]
    batches = task.splits["train"][:2]  # type: ignore[index]

    def mean_loss() -> float:
        with torch.no_grad():
            return sum(float(task.loss(model, batch)) for batch in batches) / 2

    whole = mean_loss()
    for unit, increase in enumerate(found.tolist()):
        with torch.no_grad():
            model[5].weight[unit] = model[5].bias[unit] = 0  # what reads it then reads zero
        assert increase == pytest.approx(mean_loss() - whole, abs=1e-6)
        model.load_state_dict(before)
