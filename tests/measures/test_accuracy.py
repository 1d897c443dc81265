from __future__ import annotations

import pytest
import torch
from torch import nn

from secateurs.measures.accuracy import Accuracy
from secateurs.types import SecateursError


def test_counts_the_right_ones(answering, two_batches):
    reading = Accuracy()(nn.Identity(), answering(two_batches))
    assert (reading.measure, reading.unit, reading.how, reading.samples) == ("accuracy", "1", "measured", 7)
    assert reading.value == pytest.approx(4 / 7)
    # Wilson by hand: (p + z2/2n -+ z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n)
    assert reading.spread == pytest.approx((0.2505, 0.8418), abs=1e-3)


def test_interval_of_a_perfect_score_does_not_close(answering):
    outputs, targets = torch.eye(2).repeat(10, 1), torch.arange(2).repeat(10)
    reading = Accuracy()(nn.Identity(), answering([(outputs, targets)]))
    assert reading.value == 1.0
    assert reading.spread[0] < 0.9
    assert reading.spread[1] == 1.0


@pytest.mark.parametrize(
    ("outputs", "targets", "says"),
    [
        (torch.zeros(2, 3), torch.tensor([0, 3]), "label 3 .* 3 classes"),
        (torch.zeros(2, 3), torch.tensor([0, -1]), "label -1 .* 3 classes"),
        (torch.tensor([[0.0, float("nan")]]), torch.tensor([0]), "1 NaN and 0 infinite of 2"),
        (torch.tensor([[0.0, float("inf")]]), torch.tensor([0]), "0 NaN and 1 infinite of 2"),
        (torch.zeros(2, 3), torch.tensor([0]), r"outputs \(2, 3\) and targets \(1,\)"),
        (torch.zeros(2), torch.tensor([0, 1]), r"outputs \(2,\)"),
        (torch.zeros(2, 3), torch.tensor([0.0, 1.0]), "targets of type torch.float32"),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), "holds no examples"),
    ],
)
def test_refuses_answers_that_cannot_be_scored(answering, outputs, targets, says):
    with pytest.raises(SecateursError, match=says):
        Accuracy()(nn.Identity(), answering([(outputs, targets)]))


def test_refuses_a_split_without_data(answering, two_batches):
    task = answering(two_batches)
    with pytest.raises(SecateursError, match="'train' of task 'known' gave no batches"):
        Accuracy(split="train")(nn.Identity(), task)
    with pytest.raises(SecateursError, match="no split 'test'; it has: final, train"):
        Accuracy(split="test")(nn.Identity(), task)
