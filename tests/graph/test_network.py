from __future__ import annotations

from math import prod

import pytest
import torch

from secateurs.graph.network import Graph, Product, Sum, around, named
from secateurs.types import Dim, Group, Member

# kv: 2 key-value heads, g: 3 queries each, d: 4; a projection holds queries, keys and values in one tensor.
DIMS = {name: Dim(name, size, "") for name, size in (("kv", 2), ("g", 3), ("d", 4), ("w", 10), ("ffn", 8))}
QKV = (Sum((("kv", "g", "d"), ("kv", "d"), ("kv", "d"))),)
GRAPH = Graph(
    dims=DIMS,
    tensors={"qkv": (QKV, ("w",)), "out": (("w",), ("kv", "g", "d")), "up": (("ffn",), ("w",)), "scale": (("ffn",),)},
    products=(
        Product("mm", ((5,), ("w",), QKV), "qkv"),
        Product("mm", ((5,), ("kv", "g", "d"), ("w",)), "out"),
        Product("mm", ((5,), ("w",), ("ffn",)), "up"),
    ),
    trainable=frozenset({"qkv", "out", "up"}),
)


def test_sizes_and_costs_follow_the_dims() -> None:
    assert GRAPH.size(QKV) == 24 + 8 + 8
    assert GRAPH.size(QKV, {"kv": 1}) == 12 + 4 + 4
    assert GRAPH.parameters() == 40 * 10 + 10 * 24 + 8 * 10
    assert GRAPH.macs({"ffn": 4}) == 5 * (10 * 40 + 24 * 10 + 10 * 4)


def test_members_of_a_dim_are_every_axis_it_lives_in() -> None:
    qkv, out = GRAPH.members("kv")
    assert (qkv.tensor, qkv.dims, out.tensor, out.dims) == ("qkv", (0,), "out", (1,))
    assert qkv.index is not None
    assert qkv.index.tolist()[0] == [*range(12), *range(24, 28), *range(32, 36)]
    assert GRAPH.members("ffn")[0].index is None, "unit i is position i"


def test_members_of_a_product_are_only_where_all_of_it_is() -> None:
    (qkv, out) = GRAPH.members("kv", "g")
    assert qkv.index is not None and out.index is not None
    assert qkv.index.shape == out.index.shape == (6, 4)
    assert qkv.index[4].tolist() == [16, 17, 18, 19], "second head, second query"
    assert qkv.index.max() < 24, "keys and values belong to no query"


def test_buffers_are_members_that_nobody_scores() -> None:
    assert {member.tensor: member.scored for member in GRAPH.members("ffn")} == {"up": True, "scale": False}


def test_enclosing() -> None:
    assert GRAPH.enclosing("g") == "kv"
    assert GRAPH.enclosing("d") is None, "sometimes g, sometimes kv"
    assert GRAPH.enclosing("kv") is None


@pytest.mark.parametrize("currency", ["macs", "parameters"])
@pytest.mark.parametrize("dim", ["kv", "ffn", "w", "d"])
def test_a_saving_is_the_difference_of_counts(currency: str, dim: str) -> None:
    count = GRAPH.macs if currency == "macs" else GRAPH.parameters
    assert GRAPH.saving(dim, currency) == count() - count({dim: DIMS[dim].size - 1})


def test_price_counts_what_the_groups_have_a_part_in() -> None:
    ffn = Group("ffn", 8, GRAPH.members("ffn"), 8, ("ffn",))
    query = Group("g", 6, GRAPH.members("kv", "g"), 3, ("kv", "g"))
    price = GRAPH.price((ffn, query), "macs")
    assert price.of({"ffn": 8, "g": 3}) == GRAPH.macs()
    assert price.of({"ffn": 5, "g": 2}) == GRAPH.macs({"ffn": 5, "g": 2})
    assert price.unit["g"] == (GRAPH.macs() - GRAPH.macs({"g": 2})) / 2, "two heads lose one query each"
    assert GRAPH.price((ffn,), "parameters").of({"ffn": 4}) == 40, "only what carries it"
    assert GRAPH.price((ffn, query), "units").of({"ffn": 8, "g": 3}) == 14


def test_price_of_single_weights_is_the_share_that_stays() -> None:
    weights = Group("up", 80, (Member("up", (0, 1)),), 80)
    assert GRAPH.price((weights,), "parameters").of({"up": 20}) == 20
    assert GRAPH.price((weights,), "macs").of({"up": 20}) == 5 * 20


def test_coordinates_tell_every_position() -> None:
    at = GRAPH.coordinates(QKV, "g")
    assert at.shape == (40,)
    assert at[:24].reshape(2, 3, 4)[1, 2, 3] == 2
    assert (at[24:] == -1).all()
    assert torch.equal(GRAPH.coordinates(QKV, "kv")[24:32], torch.tensor([0] * 4 + [1] * 4))


def test_freezing_gives_a_new_network() -> None:
    frozen = GRAPH.freeze({"ffn": "because"})
    assert (frozen.dims["ffn"].frozen, GRAPH.dims["ffn"].frozen) == ("because", None)


def test_named_repeats_as_they_repeat() -> None:
    assert list(named(QKV)) == ["kv", "g", "d", "kv", "d", "kv", "d"]
    assert prod(DIMS[name].size for name in dict.fromkeys(named(QKV))) == 24


def test_around_a_dim_are_the_factors_of_its_own_product_not_those_of_other_parts() -> None:
    fused = (Sum((("kv", "group", "d"), ("kv", "v"))),)
    assert around(fused, "v") == ["kv"] and around(fused, "d") == ["kv", "group"]
    assert around(("heads", Sum((("d",), (2, "v")))), "v") == ["heads"]
    assert around(fused, "width") == []
