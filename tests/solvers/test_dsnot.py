from __future__ import annotations

import pytest
import torch

from secateurs.solvers.dsnot import Dsnot
from secateurs.types import Gram, SecateursError


def test_a_swap_by_hand() -> None:
    # Two inputs that are always equal, with weights that cancel: what the row gives is the third alone.
    gram = Gram(torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    weight = torch.tensor([[2.0, -2.0, 1.0]])
    keep, values = Dsnot()(weight, gram, weight.abs(), 3, 1)
    assert keep.tolist() == [[False, False, True]]
    assert values.tolist() == [[0.0, 0.0, 1.0]]


def test_the_best_scored_stay_where_inputs_have_nothing_in_common() -> None:
    weight = torch.tensor([[3.0, -1.0, 2.0, 0.5]])
    keep, values = Dsnot()(weight, Gram(torch.eye(4)), weight.abs(), 4, 2)
    assert keep.tolist() == [[True, False, True, False]]
    assert values.tolist() == [[3.0, 0.0, 2.0, 0.0]]


def test_more_cycles_lose_less_and_no_value_changes() -> None:
    source = torch.Generator().manual_seed(0)
    samples = torch.randn(60, 20, generator=source) @ (torch.eye(20) + 0.4 * torch.randn(20, 20, generator=source))
    gram, weight = Gram(samples.T @ samples), torch.randn(6, 20, generator=source)
    scores = weight.abs() * gram.matrix.diagonal().sqrt()
    losses = []
    for cycles in (1, 3, 10, 50):
        keep, values = Dsnot(cycles)(weight, gram, scores, 4, 2)
        assert torch.equal(values, weight * keep)
        losses.append(float((((weight - values) @ gram.matrix) * (weight - values)).sum()))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_no_cycles_are_refused() -> None:
    with pytest.raises(SecateursError, match="dsnot: cycles must be at least 1, got 0"):
        Dsnot(0)
