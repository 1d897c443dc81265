"""Data that cannot be used are named: the split, and the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from secateurs.job.data import check, diagnose
from secateurs.tasks.image_classification import ImageOptions, Images, image_classification
from secateurs.types import SecateursError, Task


@pytest.fixture
def task() -> Task:
    images = Images(torch.randn(12, 1, 4, 4), torch.arange(12) % 3)
    made = image_classification(
        "twelve", {"train": images, "select": images, "final": images}, ImageOptions(batch_size=4)
    )
    return replace(made, splits={name: list(batches) for name, batches in made.splits.items()})


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(16, 3)).train()


class Broken:
    def __iter__(self) -> Iterator[Any]:
        yield 1
        raise ValueError("no more")


def test_good_data_pass_and_nothing_is_changed(model: nn.Module, task: Task) -> None:
    state = torch.get_rng_state()
    check(task)
    diagnose(model, task)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_each_split_must_be_there_and_hold_something(task: Task) -> None:
    with pytest.raises(SecateursError, match="has no split 'final'"):
        check(replace(task, splits={name: task.splits[name] for name in ("train", "select")}))
    with pytest.raises(SecateursError, match="split 'select' of task 'twelve' is empty"):
        check(replace(task, splits={**task.splits, "select": []}))


def test_the_batch_that_cannot_be_used_is_named(model: nn.Module, task: Task) -> None:
    batches = list(task.splits["train"])
    bad = [batches[0], (batches[1][0], batches[1][1] + 3), batches[2]]
    with pytest.raises(SecateursError, match=r"batch 1 of split 'train' cannot be taken: IndexError: Target \d is out"):
        diagnose(model, replace(task, splits={**task.splits, "train": bad}))
    nothing = [batches[0], (batches[1][0] * float("nan"), batches[1][1])]
    with pytest.raises(SecateursError, match="batch 1 of split 'final' is nan"):
        diagnose(model, replace(task, splits={**task.splits, "final": nothing}))
    with pytest.raises(SecateursError, match="cannot be read: ValueError: no more"):
        diagnose(
            model, replace(task, loss=lambda model, batch: torch.ones(()), splits={**task.splits, "select": Broken()})
        )
