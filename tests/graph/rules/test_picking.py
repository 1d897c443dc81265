from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from graph.rules.tracing import Seen, see

NUMBERED = "its positions are told apart by their numbers"


def routed(function: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Seen:
    """A router picks two rows of a table for each position."""

    def run(self: nn.Module, x: Tensor) -> Tensor:
        return function(self, x, self.router(x).softmax(-1).topk(2).indices)  # type: ignore[operator]

    torch.manual_seed(0)
    return see(run, torch.randn(7, 4), router=nn.Linear(4, 6), table=nn.Parameter(torch.randn(6, 3)))


@pytest.mark.parametrize(
    "function",
    [
        lambda self, x, picks: self.table[picks].sum(1),
        lambda self, x, picks: self.table[picks.t().reshape(-1).clone()].view(2, 7, 3).sum(0),
        lambda self, x, picks: nn.functional.embedding(picks, self.table).sum(1),
        lambda self, x, picks: self.table.index_select(0, picks.flatten()).view(7, 2, 3).sum(1),
        lambda self, x, picks: self.table[picks.flatten().sort().values],
        lambda self, x, picks: self.router(x).gather(1, picks),
        lambda self, x, picks: torch.zeros_like(self.router(x)).scatter(1, picks, 1.0) @ self.table,
        lambda self, x, picks: torch.bincount(picks.flatten(), minlength=len(self.table)).float() @ self.table,
        lambda self, x, picks: self.table[picks[0, 0]] * 2,
        lambda self, x, picks: self.table[self.router(x).max(-1).indices],
        lambda self, x, picks: self.table[picks.where(picks < 6, 0)] if (picks > 6).any() else self.table[picks],
    ],
)
def test_numbers_find_the_positions_that_stay(function: Callable[..., Tensor]) -> None:
    seen = routed(function)
    [(size, why)] = seen.axis("router.weight")
    assert size == 6 and why and why.startswith(("a statistic", "its positions are picked by rank"))
    assert any("router.weight[0]" in seen.graph.dims[name].carriers for name in seen.proven(flagged=True))


@pytest.mark.parametrize(
    "function",
    [
        lambda self, x, picks: self.table[(picks + 1) % 6],
        lambda self, x, picks: self.table[picks] * picks[..., None],
        lambda self, x, picks: self.table.sum(0) * (picks == 3)[..., None],
        lambda self, x, picks: self.table[(picks[0, 0].item() + 1) % 6],
        lambda self, x, picks: torch.cat([picks, picks]).float() @ self.table[:2],
        lambda self, x, picks: (self.table[picks], picks),
    ],
)
def test_numbers_that_anything_else_reads_freeze(function: Callable[..., Tensor]) -> None:
    seen = routed(function)
    assert {dim.frozen for dim in seen.graph.dims.values() if "router.weight[0]" in dim.carriers} <= {
        NUMBERED,
        "an output of the model",
    }
