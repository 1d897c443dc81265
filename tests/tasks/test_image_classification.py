from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from secateurs.tasks.image_classification import Augment, ImageOptions, Images, image_classification
from secateurs.types import SecateursError


def images(n: int, first: int = 0) -> Images:
    """Every image is filled with its own number."""
    numbers = torch.arange(first, first + n)
    return Images(numbers.float()[:, None, None, None].expand(n, 1, 6, 6), numbers % 3)


SPLITS = {"train": images(20), "select": images(7, 100), "final": images(9, 200)}


def test_splits_hold_their_images_and_labels() -> None:
    task = image_classification("t", SPLITS, ImageOptions(batch_size=4))
    for name, given in SPLITS.items():
        pixels, labels = map(torch.cat, zip(*task.splits[name], strict=True))
        assert sorted(pixels[:, 0, 0, 0].tolist()) == given.pixels[:, 0, 0, 0].tolist()
        assert torch.equal(pixels[:, 0, 0, 0].long() % 3, labels)
    assert task.manifest["examples"] == {"train": 20, "select": 7, "final": 9}


def test_only_train_is_shuffled_and_augmented() -> None:
    task = image_classification("t", SPLITS, ImageOptions(augment=Augment(shift=2)))
    (train, _), (final, _) = next(iter(task.splits["train"])), next(iter(task.splits["final"]))
    assert (train == 0).any(dim=(1, 2, 3)).sum() > 5
    assert torch.equal(final, SPLITS["final"].pixels)
    assert not torch.equal(next(iter(task.splits["train"]))[1], next(iter(task.splits["train"]))[1])


def test_example_inputs_and_loss() -> None:
    task = image_classification("t", SPLITS, ImageOptions(examples=3))
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    assert isinstance(task.example_inputs, tuple)
    assert model(*task.example_inputs).shape == (3, 3)
    pixels, labels = next(iter(task.splits["select"]))
    torch.testing.assert_close(task.loss(model, (pixels, labels)), F.cross_entropy(model(pixels), labels))
    assert 0 <= task.quality(model, task).value <= 1


def test_a_shift_moves_and_fills_with_zeros() -> None:
    pixels = torch.rand(50, 2, 5, 7) + 1
    shifted = Augment(shift=1)(pixels)
    padded = F.pad(pixels, [1] * 4)
    for before, after in zip(padded, shifted, strict=True):
        windows = [before[:, y : y + 5, x : x + 7] for y in range(3) for x in range(3)]
        assert any(torch.equal(after, window) for window in windows)
    assert len({tuple((s == 0).any(dim=0).flatten().tolist()) for s in shifted}) > 4


def test_a_flip_mirrors_about_half() -> None:
    pixels = torch.rand(200, 1, 2, 3)
    flipped = Augment(flip=True)(pixels)
    mirrored = (flipped == pixels.flip(3)).all(dim=(1, 2, 3))
    assert torch.equal(flipped[~mirrored], pixels[~mirrored])
    assert 60 < mirrored.sum() < 140


def test_the_seed_repeats_the_augmentation() -> None:
    pixels = torch.rand(10, 3, 8, 8)
    torch.manual_seed(4)
    first = Augment(2, flip=True)(pixels)
    torch.manual_seed(4)
    assert torch.equal(Augment(2, flip=True)(pixels), first)


def test_bad_input() -> None:
    with pytest.raises(SecateursError, match=r"images \(20, 6, 6\) and labels \(20,\) do not fit"):
        Images(torch.zeros(20, 6, 6), torch.zeros(20))
    with pytest.raises(SecateursError, match=r"images \(2, 1, 6, 6\) and labels \(3,\) do not fit"):
        replace(images(3), pixels=images(2).pixels)
    with pytest.raises(SecateursError, match="task 't': the final split is missing or empty"):
        image_classification("t", {"train": images(2), "select": images(2), "final": images(0)})
    with pytest.raises(SecateursError, match="the select split is missing"):
        image_classification("t", {"train": images(2), "final": images(2)})
