from __future__ import annotations

import pytest
import torch

from secateurs.criteria.ria import Ria
from secateurs.types import Rows, SecateursError


def test_shares_of_row_and_column_by_hand() -> None:
    weight, norm = torch.tensor([[1.0, -3.0], [1.0, 0.0]]), torch.tensor([[4.0, 9.0]]).expand(2, 2)
    rows = Rows(weight.reshape(4, 1), activation_norm=norm.reshape(4, 1), grid=(2, 2))
    expected = [(1 / 4 + 1 / 2) * 2, (3 / 4 + 1) * 3, (1 + 1 / 2) * 2, 0.0]
    assert Ria()([rows]).tolist() == pytest.approx(expected)
    assert Ria(power=0.0)([rows]).tolist() == pytest.approx([0.75, 1.75, 1.5, 0.0])


def test_channels_sum_over_the_matrix_that_they_are_rows_of() -> None:
    weight, norm = torch.tensor([[1.0, -3.0], [1.0, 0.0]]), torch.tensor([[4.0, 9.0]]).expand(2, 2)
    bias = Rows(torch.ones(2, 1))
    assert Ria()([Rows(weight, activation_norm=norm), bias]).tolist() == pytest.approx([6.75, 3.0])


def test_kernel_positions_are_columns() -> None:
    weight = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    size = weight.reshape(2, 12)
    expected = size / size.sum(0) + size / size.sum(1, keepdim=True)
    rows = Rows(weight.reshape(-1, 1), activation_norm=torch.ones(24, 1), grid=(2, 3, 2, 2))
    torch.testing.assert_close(Ria()([rows]), expected.flatten())


def test_matrices_side_by_side_have_rows_and_columns_of_their_own() -> None:
    one, other = torch.rand(2, 3), torch.rand(2, 3)
    rows = [
        Rows(weight.reshape(-1, 1), activation_norm=torch.ones(weight.numel(), 1), grid=(2, 3))
        for weight in (one, other, torch.stack([one, other]))
    ]
    torch.testing.assert_close(Ria()(rows[2:]), torch.cat([Ria()(rows[:1]), Ria()(rows[1:2])]))


def test_what_cannot_be_scored() -> None:
    with pytest.raises(SecateursError, match="ria: power must be at least 0"):
        Ria(-1.0)
    with pytest.raises(SecateursError, match="ria: no weight of the group multiplies an activation"):
        Ria()([Rows(torch.ones(2, 1))])
