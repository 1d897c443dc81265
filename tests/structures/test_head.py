from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from networks import trained_
from secateurs import surgery, trials
from secateurs.graph import Graph, trace
from secateurs.graph.statistics import reference
from secateurs.graph.trace import forward
from secateurs.structures.head import Head
from secateurs.types import Group, Plan


class Attention(nn.Module):
    """Self-attention in which ``kv`` heads of 4 serve ``kv * per_group`` queries."""

    def __init__(self, kv: int, per_group: int) -> None:
        super().__init__()
        self.kv, self.per_group = kv, per_group
        self.q, self.k, self.v = nn.Linear(24, 4 * kv * per_group), nn.Linear(24, 4 * kv), nn.Linear(24, 4 * kv)
        self.o = nn.Linear(4 * kv * per_group, 24)

    def split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], -1, 4).transpose(1, 2)

    def spread(self, x: Tensor) -> Tensor:
        b, kv, t, d = x.shape
        return x[:, :, None].expand(b, kv, self.per_group, t, d).reshape(b, -1, t, d)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        if self.per_group > 1:
            k, v = self.spread(k), self.spread(v)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        y: Tensor = self.o(mixed.flatten(2))
        return y


@cache
def network(kv: int, per_group: int) -> Graph:
    return trace(Attention(kv, per_group), (torch.randn(2, 5, 24),))


def positions(group: Group, tensor: str, unit: int) -> list[int]:
    [member] = [m for m in group.members if m.tensor == tensor]
    assert member.index is not None
    return member.index[unit].tolist()


def test_a_head_is_its_query_key_value_rows_and_output_columns() -> None:
    [group] = Head()(network(6, 1))
    assert (group.n_units, group.block, len(group.dims)) == (6, 6, 1)
    assert {(m.tensor, m.dims) for m in group.members} == {
        *((f"{name}.{kind}", (0,)) for name in "qkv" for kind in ("weight", "bias")),
        ("o.weight", (1,)),
    }
    assert positions(group, "k.weight", 1) == positions(group, "o.weight", 1) == [4, 5, 6, 7]


def test_a_key_value_head_goes_with_its_queries() -> None:
    [group] = Head()(network(2, 3))
    assert (group.n_units, group.block) == (2, 2)
    assert positions(group, "k.weight", 1) == [4, 5, 6, 7]
    assert positions(group, "q.weight", 1) == positions(group, "o.weight", 1) == list(range(12, 24))


def test_query_heads_go_alone_the_same_number_from_each_group() -> None:
    [group] = Head(of="query")(network(2, 3))
    assert (group.n_units, group.block, len(group.dims)) == (6, 3, 2)
    assert {m.tensor for m in group.members} == {"q.weight", "q.bias", "o.weight"}
    assert positions(group, "q.weight", 4) == [16, 17, 18, 19]


def test_query_heads_of_plain_attention_are_its_heads() -> None:
    [alone], [whole] = Head(of="query")(network(6, 1)), Head()(network(6, 1))
    assert (alone.name, alone.n_units, alone.dims) == (whole.name, whole.n_units, whole.dims)


class Narrow(nn.Module):
    """Attention that counts its heads and reads their size; a norm of queries and keys where asked for."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.heads = 2
        self.norm = nn.RMSNorm(6) if norm else nn.Identity()
        self.q, self.k, self.v, self.o = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(self.norm(q), self.norm(k), v)
        y: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return y


@pytest.mark.parametrize("norm", [False, True])
def test_dims_inside_heads(norm: bool) -> None:
    """A scale or a norm follows what stays; dims that a norm's weight shares go from all heads alike."""
    model, inputs = trained_(Narrow(norm)), (torch.randn(2, 5, 8),)
    graph = trace(model, inputs)
    groups = Head(of="dim")(graph)
    assert [(group.n_units, group.block) for group in groups] == [(6 if norm else 12, 6), (12, 6)]
    assert [bool(graph.dims[group.name].flagged) for group in groups] == [True, False]
    assert [group.name for group in Head(of="value")(graph)] == [groups[1].name]
    assert trials.provable(model, groups, graph, inputs) == (groups, {})
    random = torch.Generator().manual_seed(0)
    ranks = {g.name: torch.rand(g.n_blocks, 6, generator=random).argsort().argsort() for g in groups}
    plan = Plan({group.name: (ranks[group.name] < 2 + i).flatten() for i, group in enumerate(groups)})
    small = surgery.shrink(model, groups, plan, graph, inputs).model
    assert (small.q.out_features, small.v.out_features) == (4, 6)
    masked, fresh = copy.deepcopy(model), (torch.randn(3, 7, 8),)
    surgery.mask_(masked, groups, plan)
    (wanted,), (got,) = reference(masked, fresh, graph, groups, plan), forward(small, fresh)
    assert torch.allclose(wanted, got, atol=1e-5)
    assert not torch.allclose(forward(masked, fresh)[0], got, atol=1e-3)


class NormedTogether(Narrow):
    """Attention with one norm over all heads' queries together, and one over their keys."""

    def __init__(self) -> None:
        super().__init__(norm=False)
        self.of_queries, self.of_keys = nn.RMSNorm(12), nn.RMSNorm(12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.of_queries(self.q(x)), self.of_keys(self.k(x)), self.v(x)
        q, k, v = (y.unflatten(2, (-1, 6)).transpose(1, 2) for y in (q, k, v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        y: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return y


def test_heads_under_a_norm_over_all_of_them() -> None:
    """What is left is normed over the heads that are left."""
    model, inputs = trained_(NormedTogether()), (torch.randn(2, 5, 8),)
    graph = trace(model, inputs)
    [group] = Head()(graph)
    assert graph.dims[group.name].flagged
    plan = Plan({group.name: torch.tensor([False, True])})
    small = surgery.shrink(model, [group], plan, graph, inputs).model
    masked, fresh = copy.deepcopy(model), (torch.randn(3, 7, 8),)
    surgery.mask_(masked, [group], plan)
    (wanted,), (got,) = reference(masked, fresh, graph, [group], plan), forward(small, fresh)
    assert torch.allclose(wanted, got, atol=1e-5)
    assert not torch.allclose(forward(masked, fresh)[0], got, atol=1e-3)


def test_keep() -> None:
    [group] = Head()(network(2, 3))
    assert Head(keep=(group.name,))(network(2, 3)) == ()
    assert Head(of="query", keep=("*",))(network(2, 3)) == ()
