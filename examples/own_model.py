"""Prune a network of your own, trained by your own loop, on your own data.

    python examples/own_model.py weights.pt                # trains in a second, saves the weights
    secateurs prune examples/own_model.py:network --weights weights.pt --task examples/own_model.py:task --epsilon 0.02

A task is three things that you already have: batches, a loss, and what the network says about a batch.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from secateurs.measures.accuracy import Accuracy
from secateurs.types import Task

Batch = tuple[Tensor, Tensor]


def network() -> nn.Module:
    """8 x 8 pixels to ten classes."""
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


def batches() -> dict[str, list[Batch]]:
    """1,797 handwritten digits (scikit-learn): 1,197 train, 300 decide, 300 report."""
    digits = load_digits()
    pixels, labels = torch.tensor(digits.data / 16).float(), torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    parts = {"train": order[600:], "select": order[:300], "final": order[300:600]}
    return {name: [(pixels[i], labels[i]) for i in part.split(50)] for name, part in parts.items()}


def predict(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Class scores and labels."""
    pixels, labels = batch
    return model(pixels), labels


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean over the batch."""
    return F.cross_entropy(*predict(model, batch))


def task() -> Task:
    """What secateurs needs to know."""
    return Task("digits", (torch.rand(1, 64),), batches(), loss, predict, quality=Accuracy())


def train(epochs: int = 20) -> nn.Module:
    """An ordinary training loop."""
    torch.manual_seed(0)
    net = network()
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(epochs):
        for batch in batches()["train"]:
            optimiser.zero_grad()
            loss(net, batch).backward()
            optimiser.step()
    return net.eval()


if __name__ == "__main__":
    net = train()
    torch.save(net.state_dict(), sys.argv[1])
    print(f"{sys.argv[1]}: accuracy {Accuracy()(net, task()).value:.3f}")
