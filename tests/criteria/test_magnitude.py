from __future__ import annotations

from typing import Literal

import pytest
import torch

from secateurs.criteria.magnitude import Magnitude
from secateurs.types import Rows


def test_norm_over_all_elements_of_all_members() -> None:
    rows = [Rows(torch.tensor([[3.0, 0.0], [1.0, -1.0]])), Rows(torch.tensor([[-4.0], [2.0]]))]
    assert torch.allclose(Magnitude(p=1)(rows), torch.tensor([7.0, 4.0]))
    assert torch.allclose(Magnitude(p=2)(rows), torch.tensor([5.0, 6.0**0.5]))


def test_a_single_weight_is_its_absolute_value() -> None:
    rows = [Rows(torch.tensor([[-2.0], [0.5], [0.0]]))]
    for p in (1, 2):
        assert torch.equal(Magnitude(p=p)(rows), torch.tensor([2.0, 0.5, 0.0]))  # type: ignore[arg-type]


def test_half_precision_does_not_overflow() -> None:
    assert torch.isfinite(Magnitude()([Rows(torch.full((1, 4), 6e4, dtype=torch.float16))])).all()


@pytest.mark.parametrize("p", [1, 2])
def test_columns_are_as_rows(p: Literal[1, 2]) -> None:
    weight = torch.randn(200, 700)
    whole = Magnitude(p)([Rows(weight.t())])
    assert torch.allclose(whole, Magnitude(p)([Rows(weight.t().contiguous())]))
    assert torch.allclose(whole, torch.linalg.vector_norm(weight.double(), ord=p, dim=0).float())
