"""A network and a task small enough to check a part on: bars at three heights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateurs.measures.accuracy import Accuracy
from secateurs.testing.claims import generator
from secateurs.types import Task


def example_model(hidden: int = 12) -> nn.Module:
    """A small convolutional classifier with batch norm and dropout, of 8 x 8 images in one channel to 3 classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, 3),
        )


def example_task() -> Task:
    """Bars at three heights: 16 batches to train on, 4 to select by, 4 to report on."""
    source = generator()
    splits = {name: [_bars(source) for _ in range(n)] for name, n in (("train", 16), ("select", 4), ("final", 4))}
    images = splits["train"][0][0]
    return Task("bars", (images[:2],), splits, _bars_loss, _bars_predict, Accuracy())


def _bars(source: torch.Generator) -> tuple[Tensor, Tensor]:
    labels = torch.randint(0, 3, (16,), generator=source)
    images = torch.randn(16, 1, 8, 8, generator=source) * 0.5
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 1 + 2 * label] += 2
    return images, labels


def _bars_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(*_bars_predict(model, batch))


def _bars_predict(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    device = next(model.parameters()).device
    images, labels = batch
    return model(images.to(device)), labels.to(device)
