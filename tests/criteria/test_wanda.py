from __future__ import annotations

import pytest
import torch

from secateurs.criteria.wanda import Wanda
from secateurs.types import Rows, SecateursError


def test_weight_times_input_norm() -> None:
    weight, norm = torch.tensor([[-2.0], [3.0]]), torch.tensor([[10.0], [1.0]])
    assert Wanda()([Rows(weight, activation_norm=norm)]).tolist() == [20.0, 3.0]


def test_sum_over_elements_and_members_that_multiply() -> None:
    a = Rows(torch.tensor([[1.0, -2.0]]), activation_norm=torch.tensor([[3.0, 4.0]]))
    bias = Rows(torch.tensor([[100.0]]))
    b = Rows(torch.tensor([[-1.0]]), activation_norm=torch.tensor([[5.0]]))
    assert Wanda()([a, bias, b]).tolist() == [16.0]


def test_nothing_to_multiply_is_refused() -> None:
    with pytest.raises(SecateursError, match="wanda: no weight of the group multiplies an activation"):
        Wanda()([Rows(torch.ones(2, 1))])
