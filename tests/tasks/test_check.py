from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateurs.measures.accuracy import Accuracy
from secateurs.tasks.check import check_task
from secateurs.types import SecateursError, Task

Batch = tuple[Tensor, Tensor]


def predict(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    return model(batch[0]), batch[1]


def loss(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(*predict(model, batch))


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


@pytest.fixture
def task() -> Task:
    batches = [(torch.randn(6, 4), torch.randint(0, 3, (6,))) for _ in range(2)]
    splits = dict.fromkeys(("train", "select", "final"), batches)
    return Task("mine", (torch.zeros(1, 4),), splits, loss, predict, Accuracy())


def test_a_good_task_passes_and_nothing_changes(model: nn.Module, task: Task) -> None:
    model[2].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    check_task(model, task)
    check_task(model, replace(task, example_inputs={"input": torch.zeros(1, 4)}))
    assert [m.training for m in model.modules()] == [True, True, True, False]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(bad: float, model: nn.Module, task: Task) -> None:
    with torch.no_grad():
        model[2].weight[0, 0] = bad
    with pytest.raises(SecateursError, match=r"'2\.weight' holds 1 values that are NaN or infinite"):
        check_task(model, task)


def test_a_buffer_counts_too(model: nn.Module, task: Task) -> None:
    model[1].running_var.fill_(float("nan"))
    with pytest.raises(SecateursError, match=r"'1\.running_var' holds 8 values"):
        check_task(model, task)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {"splits": {"train": t.splits["train"]}}, "task 'mine' has no split 'select'"),
        (lambda t: {"splits": {**t.splits, "final": []}}, "the final split of task 'mine' is empty"),
        (
            lambda t: {"example_inputs": (torch.zeros(1, 5),)},
            "the forward pass on the example inputs fails: RuntimeError: mat1 and mat2",
        ),
        (lambda t: {"example_inputs": {"x": torch.zeros(1, 4)}}, "on the example inputs fails: TypeError"),
        (
            lambda t: {"splits": {**t.splits, "select": [(torch.zeros(2, 4), torch.tensor([0, 3]))]}},
            "label 3 of split 'select' of task 'mine' is outside the model's 3 classes",
        ),
        (lambda t: {"predict": lambda m, b: m(b[0])}, "predict gave Tensor on .*: give a pair of tensors"),
        (lambda t: {"loss": lambda m, b: t.loss(m, b) / 0}, "the loss on the first batch of train is inf"),
        (lambda t: {"loss": lambda m, b: m(b[0])}, "must return one number as a tensor"),
        (lambda t: {"loss": lambda m, b: t.loss(m, b).item()}, "must return one number as a tensor"),
        (lambda t: {"loss": lambda m, b: t.loss(m, b).detach()}, "has no gradient"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    change: Callable[[Task], dict[str, Any]], said: str, model: nn.Module, task: Task
) -> None:
    with pytest.raises(SecateursError, match=said) as caught:
        check_task(model, replace(task, **change(task)))
    assert "\n" not in str(caught.value)
    assert model.training
