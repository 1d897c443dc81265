from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graph.rules.tracing import free, hidden, reason, traced

X = torch.randn(3, 4)


def test_a_view_makes_two_dims_of_one() -> None:
    graph = hidden(lambda h: h.view(-1, 2, 3).transpose(1, 2).reshape(-1, 6))
    assert sorted(free(graph).values()) == [2, 3]


def test_a_view_that_cuts_across_freezes() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(self.a(x).view(-1, 2, 3).transpose(1, 2).reshape(-1, 2, 3).flatten(1))

    graph = traced(forward, X, a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert not free(graph)


def test_a_transpose_of_a_weight_is_the_weight() -> None:
    graph = traced(lambda self, x: self.b(x @ self.w), X, w=nn.Parameter(torch.randn(4, 6)), b=nn.Linear(6, 2))
    assert set(graph.dims["w.neurons" if "w.neurons" in graph.dims else "neurons"].carriers) == {"w[1]", "b.weight[1]"}
    (w, _) = sorted(graph.weights, key=lambda weight: weight.name, reverse=True)
    assert (w.outputs, w.inputs) == ((1,), (0,))


def test_a_slice_cuts_a_dim_in_two() -> None:
    graph = hidden(lambda h: h[:, :4], after=4)
    assert sorted(free(graph).values()) == [2, 4]


def test_a_chunked_gate_is_one_dim_in_both_halves() -> None:
    def gate(h: Tensor) -> Tensor:
        u, v = h.chunk(2, dim=-1)
        return u * torch.sigmoid(v)

    graph = hidden(gate, size=12, after=6)
    assert list(free(graph).values()) == [6]
    (member, *_) = graph.members(next(iter(free(graph))))
    assert member.index is not None
    assert member.index.tolist() == [[i, i + 6] for i in range(6)]


@pytest.mark.parametrize("step", [2, 3])
def test_every_nth_position_is_a_factor_that_stays(step: int) -> None:
    graph = hidden(lambda h: torch.cat([h[:, i::step] for i in range(step)], dim=1))
    assert all(size != step or step == 6 // step for size in free(graph).values())


def test_halves_that_change_places_and_are_added_are_one_dim() -> None:
    """A rotary embedding by halves."""

    def rotate(h: Tensor) -> Tensor:
        return h + torch.cat([-h[:, 3:], h[:, :3]], dim=-1)

    assert list(free(hidden(rotate)).values()) == [3]


def test_a_concatenation_keeps_its_parts_apart() -> None:
    layers = {"a": nn.Linear(4, 5), "c": nn.Linear(4, 3), "b": nn.Linear(8, 2)}
    graph = traced(lambda self, x: self.b(torch.cat([self.a(x), self.c(x)], 1)), X, **layers)
    assert free(graph) == {"a.neurons": 5, "c.neurons": 3} or sorted(free(graph).values()) == [3, 5]


def test_a_padding_is_fixed_and_what_it_borders_is_not() -> None:
    graph = hidden(lambda h: F.pad(h, (2, 1)), after=9)
    assert 6 in free(graph).values()
    assert any("padding" in (dim.frozen or "") for dim in graph.dims.values())


def test_positions_by_number_freeze() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(h) + h[:, 2:3].squeeze(1).unsqueeze(1) * 0 + h.select(1, 0)[:, None]

    assert "by number" in str(
        [d.frozen for d in traced(forward, X, a=nn.Linear(4, 6), b=nn.Linear(6, 2)).dims.values()]
    )


def test_copies_along_a_new_dim_are_a_dim_of_their_own() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        k = self.k(x).view(3, 2, 1, 4).expand(3, 2, 3, 4).reshape(3, 6, 4)
        return self.b((self.q(x).view(3, 6, 4) * k).sum(-1))

    graph = traced(forward, X, q=nn.Linear(4, 24), k=nn.Linear(4, 8), b=nn.Linear(6, 2))
    assert sorted(free(graph).values()) == [2, 3, 4]


@pytest.mark.parametrize("move", [lambda h: h.flip(1), lambda h: h.roll(1, 1)])
def test_what_changes_the_order_freezes(move: object) -> None:
    graph = hidden(move)  # type: ignore[arg-type]
    assert "reorders" in reason(graph, "a.neurons") or not free(graph)


def test_pixels_of_a_shuffle_are_fixed_and_its_channels_are_not() -> None:
    layers = {"a": nn.Conv2d(2, 12, 3, padding=1), "b": nn.Conv2d(3, 2, 3)}
    graph = traced(lambda self, x: self.b(F.pixel_shuffle(self.a(x), 2)), torch.randn(2, 2, 5, 5), **layers)
    assert list(free(graph).values()) == [3]


def test_stacked_tensors_lie_along_a_dim_that_stays() -> None:
    layers = {"a": nn.Linear(4, 6), "c": nn.Linear(4, 6), "b": nn.Linear(6, 2)}
    graph = traced(lambda self, x: self.b(torch.stack([self.a(x), self.c(x)], 1)).sum(1), X, **layers)
    assert list(free(graph).values()) == [6]
