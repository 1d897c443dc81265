from __future__ import annotations

import pytest
import torch

from secateurs.solvers.least_squares import LeastSquares
from secateurs.types import Gram, SecateursError


def test_two_columns_by_hand() -> None:
    gram = Gram(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
    keep, values = LeastSquares(damping=0.0)(torch.tensor([[1.0, 3.0]]), gram, torch.tensor([[5.0, 1.0]]), 2, 1)
    assert keep.tolist() == [[True, False]]  # the scores choose, not the weights
    torch.testing.assert_close(values, torch.tensor([[2.5, 0.0]]))  # 1 + 3 * 1 / 2


def test_damping_pulls_towards_what_it_was() -> None:
    gram, weight = Gram(torch.tensor([[2.0, 1.0], [1.0, 2.0]])), torch.tensor([[1.0, 3.0]])
    _, values = LeastSquares(damping=1.0)(weight, gram, torch.tensor([[5.0, 1.0]]), 2, 1)
    torch.testing.assert_close(values, torch.tensor([[1.75, 0.0]]))  # 1 + 3 * 1 / 4


def test_what_is_gone_stays_away() -> None:
    gram, scores = Gram(torch.eye(2) + 1), torch.tensor([[1.0, -torch.inf]])
    keep, values = LeastSquares()(torch.tensor([[1.0, 0.0]]), gram, scores, 2, 2)
    assert keep.all()
    assert values[0, 1] == 0


def test_no_iterations_are_refused() -> None:
    with pytest.raises(SecateursError, match="least_squares: iterations must be at least 1, got 0"):
        LeastSquares(iterations=0)
