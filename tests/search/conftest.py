"""A search that takes a second: a small trained network on points in a plane, and a recipe that heals."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateurs.measures.accuracy import Accuracy
from secateurs.measures.instruments.meters import Meter
from secateurs.recipe import Recipe
from secateurs.search import Budget, algorithm1
from secateurs.search.costs import Costs, Sides
from secateurs.types import Measure, Reading, Task

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
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return x, ((x.norm(dim=1) + 0.3 * torch.sin(3 * x[:, 0]) > 1.1).long())


def loss(model: nn.Module, batch: Pair) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def predict(model: nn.Module, batch: Pair) -> tuple[Tensor, Tensor]:
    return model(batch[0]), batch[1]


def make_task(quality: Measure | None = None, **manifest: Any) -> Task:
    splits = {name: rings(n, seed) for seed, (name, n) in enumerate([("train", 256), ("select", 200), ("final", 150)])}
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


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on a network this small only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def net(one_thread: None) -> nn.Module:
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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """T and E are noise, drawn anew in every run, and cost no time; the search's own meter is off."""
    noise = random.SystemRandom()

    def reading(measure: str, unit: str, value: float) -> Reading:
        return Reading(measure, value, unit, "measured")

    def time(self: Costs, model: nn.Module) -> Sides:
        t = reading("latency", "s", noise.uniform(0.5, 1.5))
        return Sides({"latency": t}, {"latency": t}, {"latency": reading("latency_ratio", "1", t.value)})

    def energy(self: Costs, model: nn.Module) -> Sides:
        e = reading("energy", "J", noise.uniform(0.5, 1.5))
        return Sides({"energy": e}, {"energy": e}, {"energy": reading("energy_ratio", "1", e.value)})

    monkeypatch.setattr(Costs, "time", time)
    monkeypatch.setattr(Costs, "energy", energy)
    monkeypatch.setattr(algorithm1, "open_meter", lambda device: Meter(device, None))
