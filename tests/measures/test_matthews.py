from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from secateurs.measures.matthews import Matthews
from secateurs.types import SecateursError


def test_binary_by_hand(answering):
    # TP 2, FN 1, FP 1, TN 4
    predicted = torch.tensor([1, 1, 0, 1, 0, 0, 0, 0])
    true = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0])
    reading = Matthews()(nn.Identity(), answering([(torch.eye(2)[predicted], true)]))
    assert reading.value == pytest.approx((2 * 4 - 1 * 1) / math.sqrt(3 * 3 * 5 * 5))
    assert reading.spread[0] < reading.value < reading.spread[1]


def test_one_class_for_all_is_worth_nothing(answering):
    task = answering([(torch.eye(2)[torch.zeros(6, dtype=torch.long)], torch.tensor([0, 1, 0, 1, 0, 1]))])
    reading = Matthews()(nn.Identity(), task)
    assert reading.value == 0.0
    assert reading.spread == (0.0, 0.0)


def test_perfect_and_inverted(answering):
    true = torch.tensor([0, 1, 0, 1])
    assert Matthews()(nn.Identity(), answering([(torch.eye(2)[true], true)])).value == pytest.approx(1.0)
    assert Matthews()(nn.Identity(), answering([(torch.eye(2)[1 - true], true)])).value == pytest.approx(-1.0)


def test_refuses_a_label_that_is_no_class(answering):
    with pytest.raises(SecateursError, match=r"label 2 .* 2 classes"):
        Matthews()(nn.Identity(), answering([(torch.eye(2), torch.tensor([0, 2]))]))
