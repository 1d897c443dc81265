"""Prune a trained CIFAR-10 ResNet (He et al. 2016, option A shortcuts) from the command line.

    export SECATEURS_DATA=...        # a folder with cifar10/ and cifar10_weights/
    secateurs prune examples/cifar10.py:resnet20 --task examples/cifar10.py:task --epsilon 0.01 \
        --recipe examples/cifar10.yaml

``cifar10/`` holds ``cifar10_train_10k.npz`` and ``cifar10_test.npz`` (``x``: n x 32 x 32 x 3 uint8, ``y``: labels), and
``cifar10_weights/`` the state dicts ``resnet20_akamaster.safetensors`` and ``resnet56_akamaster.safetensors`` of
github.com/akamaster/pytorch_resnet_cifar10, without their ``module.`` prefix.

The 10,000 training images heal, the first 5,000 test images decide, the last 5,000 report.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from secateurs.tasks.image_classification import Augment, ImageOptions, Images, image_classification
from secateurs.types import SecateursError, Task

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def resnet20() -> nn.Module:
    """ResNet-20: 269,722 parameters, 91.73 % of the 10,000 test images."""
    return trained(20)


def resnet56() -> nn.Module:
    """ResNet-56: 853,018 parameters, 93.39 % of the 10,000 test images."""
    return trained(56)


def task() -> Task:
    """All of the data."""
    return subset(10_000, 5_000)


def tiny() -> Task:
    """A few images of each split: to see that everything runs, in seconds."""
    return subset(256, 128)


class ResNet(nn.Module):
    """Three stages of ``(depth - 2) / 6`` blocks, 16, 32 and 64 channels wide."""

    def __init__(self, depth: int, n_classes: int = 10) -> None:
        super().__init__()
        n_blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16), *(Block(16, 16) for _ in range(n_blocks - 1)))
        self.layer2 = nn.Sequential(Block(16, 32), *(Block(32, 32) for _ in range(n_blocks - 1)))
        self.layer3 = nn.Sequential(Block(32, 64), *(Block(64, 64) for _ in range(n_blocks - 1)))
        self.linear = nn.Linear(64, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class Block(nn.Module):
    """``relu(x + f(x))``; where the width doubles, x loses every second pixel and gains zero channels on both sides."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.padding = (outputs - inputs) // 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        f = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(x + f)


def trained(depth: int) -> nn.Module:
    """The network with its published weights, in evaluation mode."""
    model = ResNet(depth)
    model.load_state_dict(load_file(data("cifar10_weights", f"resnet{depth}_akamaster.safetensors")))
    return model.eval()


def subset(n_train: int, n_evaluation: int) -> Task:
    """The first ``n_train`` training images, and the first ``n_evaluation`` of either half of the test images."""
    train, test = images("cifar10_train_10k.npz"), images("cifar10_test.npz")
    options = ImageOptions(
        batch_size=64,
        augment=Augment(shift=4, flip=True),
        manifest={"source": "CIFAR-10 (Krizhevsky 2009): 1,000 training images a class, the official test images"},
    )
    splits = {"train": train[:n_train], "select": test[:n_evaluation], "final": test[5000 : 5000 + n_evaluation]}
    return image_classification("cifar10", splits, options)


def images(file: str) -> Images:
    """All images of a file, normalised as the published networks expect."""
    with np.load(data("cifar10", file)) as arrays:
        pixels, labels = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    scaled = pixels.permute(0, 3, 1, 2).float() / 255
    return Images((scaled - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None], labels.long())


def data(*parts: str) -> Path:
    """A file below the folder that SECATEURS_DATA names."""
    root = os.environ.get("SECATEURS_DATA")
    if not root:
        raise SecateursError("SECATEURS_DATA is not set; set it to the folder that holds cifar10 and cifar10_weights")
    path = Path(root, *parts)
    if not path.is_file():
        raise SecateursError(
            f"no file {path}; SECATEURS_DATA must name the folder that holds cifar10 and cifar10_weights"
        )
    return path
