"""A search that takes a second: a small trained network on points in a plane, and a recipe that heals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateurs.measures.accuracy import Accuracy
from secateurs.recipe import Recipe
from secateurs.search import Budget
from secateurs.types import Measure, Task

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Shuffled:
    """Batches in an order that the global random state gives, as a data loader does."""

    x: Tensor
    y: Tensor
    size: int = 64

    def __iter__(self) -> Iterator[Pair]:
        for part in torch.randperm(len(self.x)).split(self.size):
            yield self.x[part], self.y[part]


def rings(n: int, seed: int) -> Pair:
    """Points, labelled by which of two wobbly rings they lie in."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=random)
    return x, ((x.norm(dim=1) + 0.3 * torch.sin(3 * x[:, 0]) > 1.1).long())


def loss(model: nn.Module, batch: Pair) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def predict(model: nn.Module, batch: Pair) -> tuple[Tensor, Tensor]:
    return model(batch[0]), batch[1]


def make_task(quality: Measure | None = None, **manifest: Any) -> Task:
    splits = {name: rings(n, seed) for seed, (name, n) in enumerate([("train", 256), ("select", 200), ("final", 200)])}
    return Task(
        name="rings",
        example_inputs=(splits["train"][0][:8],),
        splits={
            "train": Shuffled(*splits["train"]),
            **{name: [splits[name]] for name in ("select", "final")},
        },
        loss=loss,
        predict=predict,
        quality=quality or Accuracy(),
        manifest=manifest,
    )


def make_net(width: int = 24) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
    x, y = rings(256, 0)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss(net, (x, y)).backward()
        optimizer.step()
    return net.requires_grad_(True).eval()


@pytest.fixture(scope="session")
def net() -> nn.Module:
    return make_net()


@pytest.fixture
def task() -> Task:
    return make_task()


@pytest.fixture
def tasks() -> Callable[..., Task]:
    return make_task


@pytest.fixture
def recipe() -> Recipe:
    return Recipe.from_dict(
        {
            "structure": ["neuron"],
            "criterion": "taylor",
            "allocation": "global_rank",
            "recovery": {"fine_tune": {"epochs": 1, "learning_rate": 0.003}},
            "calibration_batches": 2,
        }
    )


@pytest.fixture
def budget() -> Budget:
    """As little measuring as the instruments allow."""
    return Budget(1e-3, 1e-3, 1e-3, 1e-3)
