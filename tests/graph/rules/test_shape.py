from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graph.rules.tracing import free, hidden, reason, see, traced

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


def test_a_chunked_gate_is_one_dim_in_both_halves() -> None:
    def gate(h: Tensor) -> Tensor:
        u, v = h.chunk(2, dim=-1)
        return u * torch.sigmoid(v)

    graph = hidden(gate, size=12, after=6)
    assert list(free(graph).values()) == [6]
    (member, *_) = graph.members(next(iter(free(graph))))
    assert member.index is not None
    assert member.index.tolist() == [[i, i + 6] for i in range(6)]


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


def test_channels_flattened_into_a_layer_keep_their_pixels() -> None:
    it = see(lambda m, x: m.b(m.a(x).flatten(1)), torch.randn(2, 2, 3, 5), a=nn.Conv2d(2, 6, 1), b=nn.Linear(6 * 15, 2))
    assert it.free("b.weight", 1) == [6]
    assert it.graph.members("a.channels")[-1].index is not None
    assert it.proven()


def test_a_view_of_a_view_is_the_view() -> None:
    it = see(
        lambda m, x: m.b(m.a(x).view(x.shape[0], -1, 2, 3).view(x.shape[0], -1, 6).unflatten(-1, (2, 3)).flatten(1)),
        X,
        a=nn.Linear(4, 24),
        b=nn.Linear(24, 2),
    )
    assert it.free("a.weight") == [4, 2, 3]


@pytest.mark.parametrize(
    "change", [lambda h: h.unsqueeze_(1).squeeze_(1), lambda h: h[:, None].squeeze().unsqueeze(0)[0]]
)
def test_dims_of_size_one_come_and_go(change: Callable[[Tensor], Tensor]) -> None:
    it = see(lambda m, x: m.b(change(m.a(x))), X, a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert it.free("a.weight") == [6]
    assert it.proven()


def test_a_shape_changed_in_place_by_an_operator_without_a_rule() -> None:
    it = see(lambda m, x: m.b(m.a(x).as_strided_((6, 3), (1, 6)).t_()), X, a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert it.graph.unknown == {"aten.as_strided_"}
    assert it.reason("a.weight") == "operator aten.as_strided_ has no rule"


def test_dims_change_places_in_place() -> None:
    it = see(lambda m, x: m.b(m.a(x).t_().transpose_(0, 1)), X, a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert it.free("a.weight") == [6]
    assert it.proven()


def test_tiles_are_copies_times_what_was_there() -> None:
    it = see(lambda m, x: m.b(m.a(x).repeat(1, 3)), X, a=nn.Linear(4, 6), b=nn.Linear(18, 2))
    assert it.free("a.weight") == [6]
    assert it.free("b.weight", 1) == [6, 3] and it.graph.size(it.graph.tensors["b.weight"][1][:1]) == 3


def test_a_border_of_ones_is_one_where_channels_were_removed() -> None:
    def function(m: nn.Module, x: Tensor, value: float) -> Tensor:
        return m.b(F.pad(m.a(x).view(x.shape[0], -1, 5), (1, 1), value=value).sum(1))

    layers = {"a": nn.Linear(4, 30), "b": nn.Linear(7, 2)}
    assert see(lambda m, x: function(m, x, 0.0), X, **layers).axis("a.weight")[0] == (6, None)
    frozen = see(lambda m, x: function(m, x, 1.0), X, **layers).axis("a.weight")[0][1]
    assert frozen == "aten.sum sums over it where its entries are not zero"


def test_a_negative_padding_cuts() -> None:
    it = see(lambda m, x: m.b(F.pad(m.a(x), (-2, 1))), X, a=nn.Linear(4, 6), b=nn.Linear(5, 2))
    assert it.axis("a.weight") == [(2, "a constant width of it is cut off"), (4, None)]
    assert it.free("b.weight", 1) == [4]
    assert it.proven()


def test_a_negative_padding_across_factors_freezes() -> None:
    it = see(
        lambda m, x: m.b(F.pad(m.a(x).view(-1, 3, 2).flatten(1), (-1, 0))), X, a=nn.Linear(4, 6), b=nn.Linear(5, 2)
    )
    assert "cuts across" in str(it.axis("a.weight"))


def test_a_concatenation_along_another_dim_unifies() -> None:
    it = see(
        lambda m, x: m.b(torch.cat([m.a(x), m.c(x)], 0)), X, a=nn.Linear(4, 6), c=nn.Linear(4, 6), b=nn.Linear(6, 2)
    )
    assert it.same(("a.weight", 0), ("c.weight", 0), ("b.weight", 1))
    assert it.proven()


def test_a_fused_projection_is_told_apart_by_its_heads() -> None:
    """Three stretches of (2 heads) x 3: the heads of all three are one dim where attention joins them."""

    def function(m: nn.Module, x: Tensor) -> Tensor:
        q, k, v = (t.view(*x.shape[:2], -1, 3).transpose(1, 2) for t in m.a(x).chunk(3, -1))
        return m.b((torch.softmax(q @ k.transpose(2, 3), -1) @ v).transpose(1, 2).flatten(2))

    it = see(function, torch.randn(2, 5, 4), a=nn.Linear(4, 18), b=nn.Linear(6, 2))
    roles = sorted((dim.role, dim.size) for dim in it.graph.dims.values() if dim.frozen is None)
    assert roles == [("head_dim", 3), ("head_dim", 3), ("heads", 2)]
    (heads,) = (name for name, dim in it.graph.dims.items() if dim.role == "heads")
    assert it.graph.members(heads)[0].index is not None
    assert it.graph.members(heads)[0].index.tolist()[1] == [3, 4, 5, 9, 10, 11, 15, 16, 17]


def test_what_stands_beside_a_view_that_cuts_across_passes() -> None:
    """Relative positions are shifted by a view (Dai et al. 2019): the heads beside them are not touched."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        scores = m.a(x).view(2, 5, -1, 7).transpose(1, 2)
        shifted = F.pad(scores, (1, 0)).view(2, -1, 8, 5)[:, :, 1:].reshape(2, -1, 5, 7)
        return m.b(shifted.transpose(1, 2).flatten(2))

    it = see(forward, torch.randn(2, 5, 4), a=nn.Linear(4, 21), b=nn.Linear(21, 2))
    assert it.axis("a.weight") == [(3, None), (7, "aten.view cuts across it")]
    assert it.proven()


def test_windows_put_together_pass_what_is_outside_of_them() -> None:
    layers = {"a": nn.Linear(4, 24), "b": nn.Conv2d(6, 2, 1)}
    fold = nn.Fold((6, 6), 2, stride=2)
    it = see(lambda m, x: m.b(fold(m.a(x).transpose(1, 2))), torch.randn(2, 9, 4), **layers)
    assert it.free("b.weight", 1) == [6]
    assert it.proven()


def test_shuffled_channels_are_groups_read_the_other_way_round() -> None:
    layers = {"a": nn.Conv2d(3, 12, 1), "s": nn.ChannelShuffle(3), "b": nn.Conv2d(12, 2, 1)}
    it = see(lambda m, x: m.b(m.s(m.a(x))), torch.randn(2, 3, 5, 5), **layers)
    assert it.free("a.weight") == [3, 4] and it.free("b.weight", 1) == [3, 4]
    assert len(it.proven()) == 2
