"""Stacks that a module multiplies matrix by matrix: what by, seen in a run of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateurs.loops import loop_of


class Experts(nn.Module):
    def __init__(self, product: Callable[[Tensor, Tensor], list[Tensor]]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w, self.product = nn.Parameter(torch.randn(3, 4, 8)), product

    def forward(self, x: Tensor, *, twice: float) -> Tensor:
        return torch.cat([twice * out for out in self.product(x, self.w)])


def by_number(x: Tensor, w: Tensor) -> list[Tensor]:
    return [F.linear(x[i : i + 2], w[i]) for i in (0, 2)]


def apart(x: Tensor, w: Tensor) -> list[Tensor]:
    return [F.linear(x[i : i + 2], one, torch.ones(4)) for i, one in enumerate(w.unbind()) if i != 1]


def on_the_left(x: Tensor, w: Tensor) -> list[Tensor]:
    return [(w[i] @ x[i : i + 2].T).T for i in (0, 2)]


def at_once(x: Tensor, w: Tensor) -> list[Tensor]:
    return [x.expand(3, -1, -1) @ w.mT]


def of_a_part(x: Tensor, w: Tensor) -> list[Tensor]:
    return [F.linear(x, w[0, :2])]


def scaled(x: Tensor, w: Tensor) -> list[Tensor]:
    return [F.linear(x, 2 * w[0])]


def again(x: Tensor, w: Tensor) -> list[Tensor]:
    return [F.linear(x, w[0]), F.linear(x, w[0])]


@pytest.mark.parametrize("product", [by_number, apart, on_the_left])
def test_matrices_and_what_they_are_multiplied_by(product: Callable[[Tensor, Tensor], list[Tensor]]) -> None:
    module, x = Experts(product), torch.randn(5, 8)
    met = loop_of(module, (x,), {"twice": 2.0}, {"it.w": module.w})
    assert [(name, number) for name, number, _ in met] == [("it.w", 0), ("it.w", 2)]
    assert torch.equal(met[0][2], x[:2]) and torch.equal(met[1][2], x[2:4])


@pytest.mark.parametrize("product", [at_once, of_a_part, scaled, again])
def test_what_is_no_loop(product: Callable[[Tensor, Tensor], list[Tensor]]) -> None:
    module = Experts(product)
    assert loop_of(module, (torch.randn(5, 8),), {"twice": 2.0}, {"w": module.w}) == []
