"""Classify images that fit in memory: shuffled and augmented for training, in order for evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from secateurs.measures.accuracy import Accuracy
from secateurs.types import Batch, SecateursError, Task


@dataclass(frozen=True)
class Images:
    """Images and what they show.

    Args:
        pixels: ``(n, channels, height, width)`` float, normalised as the network expects.
        labels: ``(n,)`` class indices.
    """

    pixels: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        """Check that there is one label for each image."""
        if self.pixels.dim() != 4 or len(self.pixels) != len(self.labels):
            raise SecateursError(
                f"images {tuple(self.pixels.shape)} and labels {tuple(self.labels.shape)} do not fit; "
                "give (n, channels, height, width) and (n,)"
            )

    def __getitem__(self, chosen: slice | list[int]) -> Images:
        """Take some of the images."""
        return Images(self.pixels[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Augment:
    """Random shifts, and flips where the mirror image shows the same: ``(n, c, h, w) -> (n, c, h, w)``.

    Args:
        shift: Largest shift in pixels, each way on each axis; zeros (the mean colour) move in.
        flip: Mirror half of the images left to right.
    """

    shift: int = 0
    flip: bool = False

    def __call__(self, pixels: Tensor) -> Tensor:
        """Draw from torch's global random state."""
        n, _, height, width = pixels.shape
        if self.shift:
            padded = F.pad(pixels, [self.shift] * 4)
            corners = torch.randint(0, 2 * self.shift + 1, (n, 2)).tolist()
            pixels = torch.stack(
                [p[:, y : y + height, x : x + width] for p, (y, x) in zip(padded, corners, strict=True)]
            )
        if self.flip:
            pixels = torch.where((torch.rand(n) < 0.5)[:, None, None, None], pixels.flip(3), pixels)
        return pixels


@dataclass(frozen=True)
class ImageOptions:
    """How images become batches.

    Args:
        batch_size: Images of a batch.
        augment: Applied to training batches.
        examples: Images in ``example_inputs``, taken from ``select``.
        manifest: What to write down about the data.
    """

    batch_size: int = 64
    augment: Augment = field(default_factory=Augment)
    examples: int = 1
    manifest: Mapping[str, Any] = field(default_factory=dict)


def image_classification(name: str, splits: Mapping[str, Images], options: ImageOptions | None = None) -> Task:
    """A task whose metric is accuracy and whose loss is cross-entropy.

    Args:
        name: For the report.
        splits: ``train``, ``select`` and ``final``.
        options: How they become batches.

    Raises:
        SecateursError: A split is missing or empty.
    """
    options = options or ImageOptions()
    for split in ("train", "select", "final"):
        if split not in splits or len(splits[split].labels) == 0:
            raise SecateursError(f"task '{name}': the {split} split is missing or empty; give it images")
    loaders = {split: _loader(images, options, train=split == "train") for split, images in splits.items()}
    return Task(
        name=name,
        example_inputs=(splits["select"].pixels[: options.examples],),
        splits=loaders,
        loss=loss,
        predict=predict,
        quality=Accuracy(),
        manifest={**options.manifest, "examples": {split: len(images.labels) for split, images in splits.items()}},
    )


def predict(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Class scores ``(n, n_classes)`` and labels ``(n,)``, on the model's device."""
    device = next(model.parameters()).device
    pixels, labels = batch
    return model(pixels.to(device)), labels.to(device)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of a batch."""
    return F.cross_entropy(*predict(model, batch))


@dataclass(frozen=True)
class _Collate:
    """Stacks examples and augments them."""

    augment: Augment

    def __call__(self, examples: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        return self.augment(torch.stack([p for p, _ in examples])), torch.stack([label for _, label in examples])


def _loader(images: Images, options: ImageOptions, *, train: bool) -> DataLoader[Any]:
    examples: Any = list(zip(images.pixels, images.labels.long(), strict=True))
    collate = _Collate(options.augment if train else Augment())
    return DataLoader(examples, batch_size=options.batch_size, shuffle=train, collate_fn=collate)
