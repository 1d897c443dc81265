from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from secateurs.graph import Graph, trace
from secateurs.structures.head import Head
from secateurs.types import Group


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


def test_keep() -> None:
    [group] = Head()(network(2, 3))
    assert Head(keep=(group.name,))(network(2, 3)) == ()
    assert Head(of="query", keep=("*",))(network(2, 3)) == ()
