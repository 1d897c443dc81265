"""Positions taken by number: stretches are parts; single ones are frozen, unless they may be modules in a list."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from graph.rules.tracing import free, hidden, see, traced

X = torch.randn(3, 4)


def test_a_slice_cuts_a_dim_in_two() -> None:
    graph = hidden(lambda h: h[:, :4], after=4)
    assert sorted(free(graph).values()) == [2, 4]


@pytest.mark.parametrize("step", [2, 3])
def test_every_nth_position_is_a_factor_that_stays(step: int) -> None:
    graph = hidden(lambda h: torch.cat([h[:, i::step] for i in range(step)], dim=1))
    assert all(size != step or step == 6 // step for size in free(graph).values())


def test_positions_by_number_freeze() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(h) + h[:, 2:3].squeeze(1).unsqueeze(1) * 0 + h.select(1, 0)[:, None]

    assert "by number" in str(
        [d.frozen for d in traced(forward, X, a=nn.Linear(4, 6), b=nn.Linear(6, 2)).dims.values()]
    )


def test_positions_taken_apart_are_frozen() -> None:
    it = see(lambda m, x: sum(m.b(h) for h in m.a(x).view(-1, 2, 3).unbind(1)), X, a=nn.Linear(4, 6), b=nn.Linear(3, 2))
    assert it.axis("a.weight") == [(2, "its positions are taken apart"), (3, None)]


def test_a_position_picked_by_number_is_frozen_and_the_rest_is_not() -> None:
    it = see(lambda m, x: m.b(m.a(x).view(x.shape[0], -1, 3)[:, 1]), X, a=nn.Linear(4, 6), b=nn.Linear(3, 2))
    assert it.axis("a.weight") == [(2, "one of its positions is picked by number"), (3, None)]


def test_a_stride_freezes_what_it_steps_over() -> None:
    it = see(lambda m, x: m.b(m.a(x)[:, 1::2]), X, a=nn.Linear(4, 6), b=nn.Linear(3, 2))
    assert it.axis("a.weight") == [(3, None), (2, "its positions are taken apart by a stride")]
    assert it.proven()


def test_a_stride_that_does_not_divide_freezes_all() -> None:
    it = see(lambda m, x: m.b(m.a(x)[:, ::4]), X, a=nn.Linear(4, 6), b=nn.Linear(2, 2))
    assert it.reason("a.weight") == it.reason("b.weight", 1) == "aten.slice cuts across it"


@pytest.mark.parametrize("function", [lambda h: h.split([1, 5], 1)[1], lambda h: h[:, 1:]])
def test_a_stretch_that_cuts_across_a_factor_freezes_it(function: Callable[[Tensor], Tensor]) -> None:
    """After a transposition the axis is three times two, and no sum."""
    it = see(
        lambda m, x: m.b(function(m.a(x).view(-1, 2, 3).transpose(1, 2).flatten(1))),
        X,
        a=nn.Linear(4, 6),
        b=nn.Linear(5, 2),
    )
    assert all(frozen for _, frozen in it.axis("a.weight"))


def test_what_is_split_and_put_together_again_is_not_torn() -> None:
    it = see(
        lambda m, x: m.b(torch.cat(m.a(x).split((2, 4), 1), 1)) + m.b(m.c(x)),
        X,
        a=nn.Linear(4, 6),
        c=nn.Linear(4, 6),
        b=nn.Linear(6, 2),
    )
    assert it.free("a.weight") == it.free("c.weight") == it.free("b.weight", 1) == [2, 4]


@pytest.mark.parametrize(
    "weights",
    [
        lambda p: [p[:, i, None] for i in range(p.shape[1])],
        lambda p: [p[:, i : i + 1] for i in range(p.shape[1])],
        lambda p: [w[:, None] for w in p.unbind(-1)],
        lambda p: p.chunk(p.shape[1], -1),
        lambda p: [row[:, None] for row in p.t()],
    ],
)
def test_what_is_taken_by_number_beside_a_list_of_so_many_modules_goes_with_it(
    weights: Callable[[Tensor], list[Tensor]],
) -> None:
    def run(self: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = sum(w * it(x) for w, it in zip(weights(self.a(x).softmax(-1)), self.list, strict=True))  # type: ignore
        return out

    def list_of(n: int) -> nn.Module:
        return nn.ModuleList(nn.Linear(4, 4) for _ in range(n))

    it = see(run, X, a=nn.Linear(4, 5), list=list_of(5))
    assert it.role("a.weight") == ["experts"]
    assert it.proven(flagged=True) == ["a.experts"]
