from __future__ import annotations

import pytest
import torch

from secateurs.criteria.gradient_activation import GradientActivation
from secateurs.types import Rows, SecateursError


def test_by_hand() -> None:
    rows = Rows(torch.tensor([[-2.0, 1.0], [0.5, 0.0]]), torch.tensor([[0.1, -0.2], [-1.0, 9.0]]), torch.ones(2, 2) * 3)
    assert GradientActivation(10.0)([rows]).tolist() == pytest.approx([2 * (3 + 1) + 1 * (3 + 2), 0.5 * (3 + 10)])


def test_a_bias_counts_by_its_gradient() -> None:
    bias = Rows(torch.tensor([[2.0]]), torch.tensor([[-0.5]]))
    assert GradientActivation(1.0)([bias]).tolist() == [1.0]


def test_alpha_below_zero() -> None:
    with pytest.raises(SecateursError, match="gradient_activation: alpha must be at least 0, got -1"):
        GradientActivation(-1)
