"""Layers are found by what they compute, and with them who reads the stream that they write to."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from networks import DECODER, NETWORKS, causal_text, trained_, transformer
from secateurs.recoveries._layers import found
from secateurs.testing import example_task
from secateurs.types import Task


def squares(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    out: Tensor = model(**batch)[0]
    return out.square().mean()


def task_of(*batches: object) -> Task:
    return Task("text", batches[0], {"train": batches}, squares, lambda m, b: (m(**b)[0], b), example_task().quality)  # type: ignore[arg-type]


def test_layers_of_a_decoder_and_who_reads_what_they_write() -> None:
    model = trained_(transformer("Llama", "ForCausalLM", **{**DECODER, "num_hidden_layers": 2}))
    batch = causal_text(2, 6)
    layers = {layer.name: layer for layer in found(model, copy.deepcopy(model), task_of(batch), batch)}
    readers = {name.removeprefix("model.layers."): layer.reader for name, layer in layers.items() if layer.reader}
    assert readers == {
        "0.self_attn.o_proj": "model.layers.0.post_attention_layernorm",
        "0.mlp.down_proj": "model.layers.1.input_layernorm",
        "1.self_attn.o_proj": "model.layers.1.post_attention_layernorm",
        "1.mlp.down_proj": "model.norm",
    }
    assert {name.rpartition(".")[2] for name in layers} >= {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}
    assert not any(layer.narrowed or layer.transposed for layer in layers.values())


def test_layers_with_transposed_weights() -> None:
    species = NETWORKS["gpt2"]
    model, batch = trained_(species.build()), species.inputs(2, 6)
    layers = found(model, copy.deepcopy(model), task_of(batch), batch)
    by_kind = {layer.name.split(".", 3)[-1]: layer for layer in layers}
    assert by_kind["attn.c_proj"].transposed
    assert by_kind["attn.c_proj"].reader is not None
    assert by_kind["mlp.c_proj"].reader is not None
    weight = by_kind["mlp.c_fc"].module.get_parameter("weight")
    assert torch.equal(by_kind["mlp.c_fc"].weight, weight.T)


def test_a_shared_layer_is_left_alone() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.c.weight = self.b.weight

        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (self.c(self.b(self.a(self.a(x).exp()))),)

    batch = {"x": torch.randn(3, 4)}
    assert found(Twice(), Twice(), task_of(batch), batch) == []
