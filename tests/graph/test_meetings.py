"""Where queries meet keys: which outputs of which weights, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks import trained_
from secateurs.graph import trace
from secateurs.structures.head import Head
from secateurs.structures.neuron import Neuron
from secateurs.types import Group


class Attention(nn.Module):
    """Two key-value heads of 3, two queries to each; fused: one weight for all. In a module of its own where asked."""

    def __init__(self, fused: bool, apart: bool) -> None:
        super().__init__()
        sizes = [12, 6, 6]
        self.project = nn.ModuleList([nn.Linear(8, sum(sizes))] if fused else [nn.Linear(8, n) for n in sizes])
        self.core = Core() if apart else None
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        given = torch.cat([layer(x) for layer in self.project], dim=2) if len(self.project) > 1 else self.project[0](x)
        q, k, v = given.split([12, 6, 6], dim=2)
        y: Tensor = self.out(self.core(q, k, v) if self.core else Core.forward(self, q, k, v))  # type: ignore[arg-type]
        return y


class Core(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, t = q.shape[:2]
        q, k, v = (y.view(b, t, -1, 3).transpose(1, 2) for y in (q, k, v))
        k, v = (y[:, :, None].expand(b, 2, 2, t, 3).reshape(b, 4, t, 3) for y in (k, v))
        return ((q @ k.transpose(2, 3)).softmax(3) @ v).transpose(1, 2).reshape(b, t, -1)


def where(group: Group) -> list[list[tuple[str, int, list[Any]]]]:
    return [[(it.tensor, it.axis, it.positions.tolist()) for it in meeting] for meeting in group.meetings]


@pytest.mark.parametrize("apart", [False, True])
def test_queries_and_keys_of_each_key_value_head(apart: bool) -> None:
    graph = trace(trained_(Attention(False, apart)), (torch.randn(2, 5, 8),))
    met, *others = Head(of="dim")(graph)
    assert where(met) == [
        [
            ("project.0.weight", 0, [[[i, i + 3], [i + 6, i + 9]] for i in range(3)]),
            ("project.1.weight", 0, [[[i], [i + 3]] for i in range(3)]),
        ]
    ]
    assert [group.meetings for group in others] == [()]


def test_they_may_lie_in_one_weight() -> None:
    graph = trace(trained_(Attention(True, False)), (torch.randn(2, 5, 8),))
    [[one, other]] = where(Head(of="dim")(graph)[0])
    assert one == ("project.0.weight", 0, [[[i, i + 3], [i + 6, i + 9]] for i in range(3)])
    assert other == ("project.0.weight", 0, [[[i + 12], [i + 15]] for i in range(3)])


def test_rotary_pairs_that_all_layers_share_meet_in_each() -> None:
    """Pass-through positions beside the pairs are units of their own."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2}
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, num_attention_heads=2, rotary_pct=0.5, use_cache=False)).eval()
    graph = trace(model, {"input_ids": torch.randint(0, 40, (2, 7))})
    pairs, *_ = (group for group in Head(of="dim")(graph) if group.n_units == 2)
    name = "gpt_neox.layers.{}.attention.query_key_value.weight"  # heads of 24 rows: queries, keys, values
    assert where(pairs) == [
        [
            (name.format(layer), 0, [[[at + i, at + i + 2], [at + i + 24, at + i + 26]] for i in range(2)])
            for at in (0, 8)
        ]
        for layer in range(2)
    ]
    beside = [group for group in Head(of="dim")(graph) if group.n_units == 4 and group.meetings]
    assert [where(group)[0][1][2] for group in beside] == [[[[12 + i], [36 + i]] for i in range(4)]] * 2


def test_inside_heads_of_their_own_each_unit_meets_once() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": 40, "n_embd": 12, "n_head": 2, "n_layer": 1, "n_positions": 16}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)).eval()
    graph = trace(model, {"input_ids": torch.randint(0, 40, (2, 7))})
    met, values = Head(of="dim")(graph)
    name = "transformer.h.0.attn.c_attn.weight"
    assert where(met) == [[(name, 1, [[[i]] for i in range(12)]), (name, 1, [[[12 + i]] for i in range(12)])]]
    assert values.meetings == () and all(group.meetings == () for group in Neuron()(graph))
