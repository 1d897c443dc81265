from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateurs.graph import Graph, trace

IDS = {"input_ids": torch.randint(3, 30, (2, 6))}


def free(graph: Graph) -> dict[str, tuple[int, str]]:
    return {name: (dim.size, dim.role) for name, dim in graph.dims.items() if dim.frozen is None}


def bert() -> Graph:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=20, vocab_size=40)
    return trace(BertForSequenceClassification(BertConfig(**sizes)).eval(), IDS)


def llama() -> Graph:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = dict(hidden_size=48, num_hidden_layers=1, num_attention_heads=6, intermediate_size=20, vocab_size=40)
    return trace(LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **sizes)).eval(), IDS)


def test_an_encoder_s_heads_and_feed_forward_widths_are_named_by_their_modules() -> None:
    graph = bert()
    found = free(graph)
    for layer in range(2):
        assert found[f"bert.encoder.layer.{layer}.attention.heads"] == (4, "heads")
        assert found[f"bert.encoder.layer.{layer}.ffn"] == (20, "neurons")
    assert graph.dims["bert.width"].role == "width"
    assert "statistic" in (graph.dims["bert.width"].flagged or "") and graph.dims["bert.width"].frozen is None
    assert found["bert.embeddings.word_embeddings.vocabulary"][1] == "vocabulary"
    assert graph.dims["bert.embeddings.position_embeddings.vocabulary"].frozen == "its positions are picked by data"
    assert graph.dims["classifier.output"].frozen == "an output of the model"


def test_grouped_queries_are_key_value_heads_and_the_queries_of_each() -> None:
    graph = llama()
    found = free(graph)
    assert found["model.layers.0.self_attn.kv_heads"] == (2, "kv_heads")
    assert found["model.layers.0.self_attn.query_group"] == (3, "query_group")
    assert graph.enclosing("model.layers.0.self_attn.query_group") == "model.layers.0.self_attn.kv_heads"
    assert found["model.layers.0.mlp.ffn"] == (20, "neurons")


def test_a_normed_stream_that_is_read_by_heads_is_a_width() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm, self.mix, self.head = (
                nn.Linear(5, 12),
                nn.LayerNorm(12),
                nn.Linear(12, 12),
                nn.Linear(12, 2),
            )

        def heads(self, x: Tensor) -> Tensor:
            return x.unflatten(2, (3, 4)).transpose(1, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.stem(x))
            x = x + self.mix(
                nn.functional.scaled_dot_product_attention(*[self.heads(x)] * 3).transpose(1, 2).flatten(2)
            )
            y: Tensor = self.head(x)
            return y

    graph = trace(Net(), (torch.randn(2, 6, 5),))
    assert {dim.role for dim in graph.dims.values() if dim.flagged} == {"width"}
    assert not {"heads", "head_dim"} & {role for _, role in free(graph).values()}


def test_channels_joined_by_an_addition_are_one_dim_and_the_inner_ones_their_own() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.block = nn.Sequential(nn.Conv2d(8, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 8, 3, padding=1))
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.head((x + self.block(x)).mean((2, 3)))

    graph = trace(Net().eval(), (torch.randn(2, 3, 8, 8),))
    assert free(graph) == {"stem.channels": (8, "channels"), "block.channels": (5, "channels")}
    assert set(graph.dims["stem.channels"].carriers) == {
        "stem.weight[0]",
        "stem.bias[0]",
        "block.0.weight[1]",
        "block.2.weight[0]",
        "block.2.bias[0]",
        "head.weight[1]",
    }


def test_names_are_unique_and_carriers_exist() -> None:
    for graph in (bert(), llama()):
        assert all(name == dim.name for name, dim in graph.dims.items())
        for dim in graph.dims.values():
            for carrier in dim.carriers:
                tensor, _, axis = carrier.removesuffix("]").rpartition("[")
                assert int(axis) < len(graph.tensors[tensor])


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_macs_and_parameters_are_those_of_the_network(kind: str) -> None:
    graph = bert() if kind == "bert" else llama()
    weights = sum(graph.size(axes[0]) * graph.size(axes[1]) for axes in graph.tensors.values() if len(axes) == 2)
    assert graph.parameters() > weights * 0.9
    assert graph.macs() > 0


def test_a_parameter_that_nothing_reads_is_frozen_with_that_reason() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.unused = nn.Linear(4, 2), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x)

    graph = trace(Idle().eval(), (torch.randn(2, 4),))
    assert all(
        dim.frozen and "reads it" in dim.frozen
        for dim in graph.dims.values()
        if any(c.startswith("unused") for c in dim.carriers)
    )


def test_a_name_is_given_once_though_two_ways_of_naming_lead_to_it() -> None:
    """The second stretch of a projection is called by its first carrier at once, the first after its name clashed."""

    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.ModuleDict({"more": nn.Linear(4, 4), "again": nn.Linear(4, 4)})
            self.body.update({"fused": nn.Linear(4, 5), "mix": nn.Linear(3, 3)})
            self.last = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.body["again"](torch.relu(self.body["more"](x)))
            first, second = self.body["fused"](x).split((3, 2), -1)
            return self.last(torch.cat([second, self.body["mix"](first)], -1))

    graph = trace(Split().eval(), (torch.randn(3, 4),))
    fused = [(dim.name, dim.size) for dim in graph.dims.values() if "body.fused.weight[0]" in dim.carriers]
    assert len({name for name, _ in fused}) == 2
    assert sum(size for _, size in fused) == 5
    assert graph.size(graph.tensors["body.fused.weight"][0]) == 5


def test_a_product_without_heads_has_neurons_and_no_dims_of_a_head() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.values, self.keys, self.out = nn.Linear(4, 6), nn.Linear(4, 5), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            states = self.values(x).mT @ self.keys(x)
            return self.out((states @ self.keys(x).mT).mT)

    found = free(trace(Net(), (torch.randn(2, 3, 4),)))
    assert sorted(found.values()) == [(5, "neurons"), (6, "neurons")]


def test_experts_whose_matrices_are_picked_by_data_have_neurons() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Parameter(torch.randn(3, 6, 4)), nn.Parameter(torch.randn(3, 2, 6))

        def forward(self, x: Tensor) -> Tensor:
            expert = x.argmax(-1) % 3
            return self.down[expert] @ (self.up[expert] @ x[..., None]).relu()

    assert list(free(trace(Net(), (torch.randn(5, 4),))).values()) == [(6, "neurons")]
