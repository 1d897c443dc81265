from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from secateurs.evidence import scores
from secateurs.graph import trace
from secateurs.structures.neuron import Neuron
from secateurs.testing import example_task
from secateurs.types import Criterion, Task


@dataclass(frozen=True)
class Layered:
    """Three linear layers, of which the first makes 8 neurons, and three batches for them."""

    model: nn.Sequential
    x: Tensor

    def scores(self, criterion: Criterion) -> Tensor:
        """Of the 8 neurons, from all batches."""

        def loss(network: nn.Module, batch: Tensor) -> Tensor:
            out: Tensor = network(batch)
            return out.square().mean()

        inputs, quality = (self.x[0],), example_task().quality
        task = Task("toy", inputs, {"train": list(self.x)}, loss, lambda m, b: (m(b), b), quality)
        found = scores(self.model, Neuron()(trace(self.model, inputs)), criterion, task, len(self.x))
        return next(score for score in found.values() if len(score) == 8)


@pytest.fixture
def layered() -> Layered:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    return Layered(model, torch.randn(3, 16, 5) + 1)
