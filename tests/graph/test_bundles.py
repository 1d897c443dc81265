"""Groups that keep the same number are tried as one; those whose size one number may say are made so."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from networks import trained_
from secateurs import surgery
from secateurs.graph import trace
from secateurs.graph.bundles import bundles, paired
from secateurs.graph.trace import forward
from secateurs.prune import find_groups
from secateurs.structures.head import Head
from secateurs.types import Group, Plan


class OneSize(nn.Module):
    """Attention whose heads have one size for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 6
        self.q, self.k, self.v, self.o = (nn.Linear(12, 12) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(2, (-1, self.size)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = (q @ k.transpose(2, 3) / 2).softmax(3) @ v
        y: Tensor = x + self.o(mixed.transpose(1, 2).reshape(*x.shape[:2], -1))
        return y


def layers() -> nn.Module:
    return trained_(nn.Sequential(nn.Linear(5, 12), OneSize(), OneSize(), nn.Linear(12, 3)))


def test_groups_alike_are_one_bundle_where_their_blocks_hold_as_many_multiples() -> None:
    groups = [
        Group(f"g{i}", n, (), n, alike=word) for i, (n, word) in enumerate([(4, "a"), (4, ""), (4, "a"), (6, "a")])
    ]
    assert [[group.name for group in some] for some in bundles(groups)] == [["g0", "g2"], ["g1"], ["g3"]]


def test_dims_of_one_role_and_size_in_one_module_are_paired() -> None:
    graph = trace(layers(), (torch.randn(2, 4, 5),))
    groups = Head(of="dim")(graph)
    found = paired(groups, graph)
    assert {group.name for group in found} == {group.name for group in groups}
    assert {(group.name.split(".")[0], group.alike.split(".")[0]) for group in found} == {
        ("1", "with 1"),
        ("2", "with 2"),
    }
    assert len({group.alike for group in found}) == 2
    assert paired([group for group in groups if group.name.endswith("head_dim")][::2], graph) == []


def test_dims_inside_heads_of_one_size_go_in_equal_numbers() -> None:
    """Each layer keeps a number of its own."""
    model, inputs = layers(), (torch.randn(2, 4, 5),)
    graph = trace(model, inputs)
    groups = find_groups(model, [Head(of="dim")], graph, inputs)
    assert len(groups) == 4
    gone = {group.alike: 1 + i for i, group in enumerate(groups)}
    plan = Plan({group.name: torch.arange(group.n_units) % 6 >= gone[group.alike] for group in groups})
    small = surgery.shrink(model, groups, plan, graph, inputs).model
    surgery.mask_(model, groups, plan)
    fresh = (torch.randn(3, 7, 5),)
    assert torch.allclose(forward(small, fresh)[0], forward(model, fresh)[0], atol=1e-5)
    assert len({layer.size for layer in small.children() if isinstance(layer, OneSize)}) == 2


def test_what_the_user_wants_alike_is_tried_alike() -> None:
    model, inputs = layers(), (torch.randn(2, 4, 5),)
    graph = trace(model, inputs)
    wanted = Head(of="dim", same=True)
    assert find_groups(model, [wanted], graph, inputs) == wanted(graph)


def test_values_go_by_twos_where_rotary_positions_go_in_pairs() -> None:
    """All layers read one rotary table: all of them lose the same share, of queries and keys the same positions."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "use_cache": False}
    model = trained_(LlamaForCausalLM(LlamaConfig(**sizes, **heads)))
    inputs = {"input_ids": torch.randint(0, 40, (2, 9))}
    graph = trace(model, inputs)
    groups = find_groups(model, [Head(of="dim")], graph, inputs)
    assert sorted((group.block, group.multiple) for group in groups) == [(4, 1), (8, 2), (8, 2)]
    assert len({group.kind for group in groups}) == 1 == len(bundles(groups))
    random = torch.Generator().manual_seed(0)
    ranks = {group.name: torch.rand(group.block, generator=random).argsort().argsort() for group in groups}
    plan = Plan({group.name: ranks[group.name] < group.block * 3 // 4 for group in groups})
    small = surgery.shrink(model, groups, plan, graph, inputs).model
    surgery.mask_(model, groups, plan)
    fresh = {"input_ids": torch.randint(0, 40, (3, 7))}
    assert torch.allclose(forward(small, fresh)[0], forward(model, fresh)[0], atol=1e-5)
    attention = small.get_submodule("model.layers.0.self_attn")
    shapes = [tuple(attention.get_parameter(f"{name}_proj.weight").shape) for name in "qkvo"]
    assert shapes == [(24, 32), (12, 32), (12, 32), (32, 24)]
    assert len(small.get_buffer("model.rotary_emb.inv_freq")) == 3


def test_blocks_that_do_not_divide_each_other_are_not_paired() -> None:
    graph = trace(layers(), (torch.randn(2, 4, 5),))
    one, other, *_ = Head(of="dim")(graph)
    assert paired([one, replace(other, n_units=8, block=4)], graph) == []
    wide = replace(other, n_units=24, block=12)
    assert {it.block: it.multiple for it in paired([one, wide], graph)} == {6: 1, 12: 2}
    assert {it.block: it.multiple for it in paired([replace(one, multiple=2), wide], graph)} == {6: 2, 12: 4}
    assert paired([replace(one, multiple=4), wide], graph) == []
