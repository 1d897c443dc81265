from __future__ import annotations

import pytest
import torch

from secateurs.choosers.leverage import Leverage
from secateurs.types import Gram, Rows, SecateursError


def twins() -> Rows:
    """Six units of which three pairs are alike, the last pair the weakest."""
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 2.0, 1.0])
    x = x.repeat_interleave(2, dim=1) * torch.tensor([1.0, 1.1, 1.0, 1.1, 1.0, 1.1])
    return Rows(torch.ones(6, 2), gram=Gram(x.T @ x))


def test_units_that_span_what_all_hand_on_stay_whatever_they_are_worth() -> None:
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    x = torch.stack([x[:, 0], x[:, 0], x[:, 0], x[:, 1]], dim=1)
    rows = Rows(torch.ones(4, 2), gram=Gram(x.T @ x))
    assert Leverage(ridge=0.01)([rows], torch.tensor([9.0, 8.0, 7.0, 1.0]), 4, 2).tolist()[3]
    several = Rows(torch.ones(2, 4), gram=rows.gram)  # two inputs to a unit
    assert Leverage(ridge=0.01)([several], torch.tensor([9.0, 1.0]), 2, 1).tolist() == [False, True]


def test_units_compete_inside_a_block_and_what_is_gone_stays_gone() -> None:
    keep = Leverage()([twins()], torch.tensor([0.0, -torch.inf, 0.0, 0.0, 0.0, 0.0]), 3, 1)
    assert keep.view(2, 3).sum(1).tolist() == [1, 1]
    assert not keep[1]


def test_where_no_matrix_reads_the_units_the_best_scored_stay_and_a_bad_ridge_is_refused() -> None:
    assert Leverage()([Rows(torch.ones(3, 1))], torch.tensor([1.0, 3.0, 2.0]), 3, 2).tolist() == [False, True, True]
    with pytest.raises(SecateursError, match="ridge must be above 0, got 0"):
        Leverage(ridge=0.0)
