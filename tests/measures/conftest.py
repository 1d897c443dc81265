"""A task whose answers are known: the model is the identity, so a batch's first tensor is its outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateurs.measures.accuracy import Accuracy
from secateurs.types import Task

Batches = Sequence[tuple[Tensor, Tensor]]


@pytest.fixture
def answering() -> Callable[[Batches], Task]:
    """Batches of (outputs, targets) -> a task of which the identity answers just these outputs."""

    def make(batches: Batches) -> Task:
        def predict(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
            return model(batch[0]), batch[1]

        def loss(model: nn.Module, batch: Any) -> Tensor:
            return F.cross_entropy(model(batch[0]), batch[1])

        return Task("known", (torch.zeros(1, 3),), {"final": list(batches), "train": []}, loss, predict, Accuracy())

    return make


@pytest.fixture
def two_batches() -> Batches:
    """Seven examples of three classes in batches of 4 and 3; the best class is right in 4 of them."""
    outputs = torch.eye(3)[torch.tensor([0, 1, 2, 2, 0, 1, 1])]
    targets = torch.tensor([0, 1, 1, 0, 0, 2, 1])
    return [(outputs[:4], targets[:4]), (outputs[4:], targets[4:])]


@pytest.fixture
def running() -> Callable[..., Task]:
    """Example inputs -> a task for measures that look at nothing else."""

    def make(*inputs: Tensor, **named: Tensor) -> Task:
        def nothing(model: nn.Module, batch: Any) -> Any:
            raise AssertionError("cost measures look at the example inputs only")

        return Task("running", named or inputs, {}, nothing, nothing, Accuracy())

    return make
