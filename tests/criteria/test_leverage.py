from __future__ import annotations

import pytest
import torch

from secateurs.criteria.leverage import Leverage
from secateurs.types import Gram, Rows, SecateursError


def test_the_diagonal_of_the_ridge_projection() -> None:
    """C = diag(3, 1), its mean 2: 3 / (3 + 2) and 1 / (1 + 2)."""
    rows = Rows(torch.ones(2, 4), gram=Gram(torch.tensor([[3.0, 0.0], [0.0, 1.0]])))
    assert Leverage()([rows]).tolist() == pytest.approx([3 / 5, 1 / 3])
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(0)).double()
    matrix = x.T @ x
    ridge = 0.3 * float(matrix.diagonal().mean())
    expected = (matrix @ torch.linalg.inv(matrix + ridge * torch.eye(6))).diagonal().view(3, 2).sum(1)
    found = Leverage(ridge=0.3)([Rows(torch.ones(3, 8), gram=Gram(matrix.float()))])
    assert torch.allclose(found.double(), expected, rtol=1e-4)


def test_units_that_share_a_direction_share_its_leverage_and_what_nobody_reads_has_none() -> None:
    x = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 9.0]])
    weight = torch.tensor([[1.0], [1.0], [1.0], [0.0]])
    twin, other, alone, unread = Leverage(ridge=1e-4)([Rows(weight[:, [0]], gram=Gram(x.T @ x))]).tolist()
    assert twin == pytest.approx(0.5, abs=1e-3) and other == pytest.approx(0.5, abs=1e-3)
    assert 0 < alone < 0.5 and unread == 0


def test_a_ridge_of_zero_and_units_that_no_matrix_reads_are_refused() -> None:
    with pytest.raises(SecateursError, match="leverage: ridge must be above 0"):
        Leverage(ridge=0.0)
    with pytest.raises(SecateursError, match="leverage: no weight of the group reads"):
        Leverage()([Rows(torch.ones(2, 1))])
