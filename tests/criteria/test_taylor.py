from __future__ import annotations

import pytest
import torch
from torch import nn

from secateurs.criteria.taylor import Taylor
from secateurs.types import Rows


def test_square_of_the_sum_inside_a_member_sum_of_squares_over_members() -> None:
    a = Rows(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]]))  # 3 - 2 = 1
    b = Rows(torch.tensor([[2.0]]), torch.tensor([[-1.0]]))  # -2
    assert Taylor()([a, b]).tolist() == [5.0]


def test_single_weights() -> None:
    rows = [Rows(torch.tensor([[2.0], [0.0]]), torch.tensor([[3.0], [9.0]]))]
    assert Taylor()(rows).tolist() == [36.0, 0.0]


def test_one_member_is_the_derivative_by_a_gate_squared() -> None:
    first, second = nn.Linear(5, 4, bias=False), nn.Linear(4, 3)
    x, gate = torch.randn(7, 5), torch.ones(4, requires_grad=True)
    second(torch.tanh(first(x)) * gate).logsumexp(1).sum().backward()
    assert gate.grad is not None and second.weight.grad is not None
    score = Taylor()([Rows(second.weight.detach().t(), second.weight.grad.t())])
    assert score.tolist() == pytest.approx(gate.grad.square().tolist(), rel=1e-4)
