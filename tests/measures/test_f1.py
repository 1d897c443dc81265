from __future__ import annotations

import pytest
import torch
from torch import nn

from secateurs.measures.f1 import F1
from secateurs.types import SecateursError

# Per class of the seven examples, 2 TP / (2 TP + FP + FN): 4/5, 4/6, 0; three, three and one are true.
BY_HAND = {"macro": (0.8 + 2 / 3 + 0) / 3, "weighted": (3 * 0.8 + 3 * 2 / 3 + 0) / 7, "micro": 4 / 7}


@pytest.mark.parametrize("average", BY_HAND)
def test_averages_by_hand(answering, two_batches, average):
    reading = F1(average=average)(nn.Identity(), answering(two_batches))
    assert reading.value == pytest.approx(BY_HAND[average])
    assert reading.samples == 7
    assert 0 <= reading.spread[0] <= reading.value <= reading.spread[1] <= 1


def test_binary_is_of_class_one(answering):
    outputs = torch.eye(2)[torch.tensor([1, 1, 0, 0, 0])]
    task = answering([(outputs, torch.tensor([1, 0, 1, 0, 0]))])
    assert F1(average="binary")(nn.Identity(), task).value == pytest.approx(0.5)


def test_interval_repeats_and_narrows(answering):
    drawn = torch.Generator().manual_seed(1)
    targets = torch.randint(0, 3, (4000,), generator=drawn)
    outputs = torch.eye(3)[torch.where(torch.rand(4000, generator=drawn) < 0.8, targets, (targets + 1) % 3)]
    few, many, again = (F1()(nn.Identity(), answering([(outputs[:n], targets[:n])])) for n in (100, 4000, 4000))
    assert many == again
    assert many.spread[1] - many.spread[0] < (few.spread[1] - few.spread[0]) / 3
    # Macro F1 of nearly balanced classes is nearly a fraction of 4000 trials: +-1.96 sqrt(.8 * .2 / 4000)
    assert many.spread[1] - many.spread[0] == pytest.approx(2 * 0.0124, rel=0.25)


def test_refuses_what_it_cannot_average(answering, two_batches):
    with pytest.raises(SecateursError, match="no average 'makro'"):
        F1(average="makro")
    with pytest.raises(SecateursError, match="needs two classes, not 3"):
        F1(average="binary")(nn.Identity(), answering(two_batches))
