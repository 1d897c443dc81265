from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graph.rules.tracing import Between
from graph.test_flow import flow_of
from secateurs.graph.reach import Reach


def additions(function: Callable[[nn.Module, Tensor], Tensor]) -> list[list[str]]:
    """For every residual addition of an expression over two layers, the operators that compute what is added."""
    flow = flow_of(Between(function, a=nn.Linear(3, 3), b=nn.Linear(3, 3)), torch.randn(2, 3))
    found = Reach(flow).additions
    return [[flow.steps[i].operator.removeprefix("aten.") for i in sorted(it.inside)] for it in found]


def test_residual_additions() -> None:
    assert additions(lambda self, x: x + self.a(x)) == [["t", "addmm"]]
    assert additions(lambda self, x: self.a(x).relu() + x) == [["t", "addmm", "relu"]]
    assert additions(lambda self, x: self.a(x).add_(x)) == [["t", "addmm"]]
    both = additions(lambda self, x: (y := x + self.a(x)) + self.b(y))
    assert both == [["t", "addmm"], ["t", "addmm"]]


def test_other_additions() -> None:
    assert additions(lambda self, x: self.a(x) + self.b(x)) == []
    assert additions(lambda self, x: x + self.a.bias) == []
    assert additions(lambda self, x: x + (y := self.a(x)) + y.sum()) == [], "y is read once more"


def test_what_nobody_needs_is_left_out() -> None:
    def idle(self: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = self.a(x)
        y.exp()
        return x + y

    assert additions(idle) == [["t", "addmm"]]
