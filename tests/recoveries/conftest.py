"""A small task that can be learnt: two clouds of points, and networks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from secateurs.types import Reading, Task


@dataclass(frozen=True)
class NoQuality:
    """A recovery must not measure."""

    higher_is_better: ClassVar[bool] = True

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        raise AssertionError("a recovery looked at the quality")


class Forbidden:
    """A split that nobody may read."""

    def __iter__(self) -> Any:
        raise AssertionError("a recovery read data that decides or reports")


def predict(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    points, labels = batch
    return model(points), labels


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(*predict(model, batch))


def clouds(n: int = 256) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (n,), generator=generator)
    points = torch.randn(n, 6, generator=generator) + 1.5 * labels[:, None]
    return TensorDataset(points, labels)


@pytest.fixture
def make_task() -> Callable[[Iterable[Any] | None], Task]:
    """A task whose train split is the one given, or a shuffling DataLoader."""

    def make(train: Iterable[Any] | None = None) -> Task:
        train = DataLoader(clouds(), batch_size=16, shuffle=True) if train is None else train
        splits = {"train": train, "select": Forbidden(), "final": Forbidden()}
        return Task("clouds", (torch.zeros(1, 6),), splits, loss, predict, NoQuality())

    return make


@pytest.fixture
def network() -> nn.Module:
    """Linear, batch norm, dropout, linear; not yet trained."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.1), nn.Linear(12, 2))
