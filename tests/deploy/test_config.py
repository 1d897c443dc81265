"""Which config makes a pruned network is found from names and shapes alone."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from torch import nn

from secateurs import surgery
from secateurs.biases import lacking
from secateurs.deploy import Transformers
from secateurs.deploy.config import Search
from secateurs.deploy.pretrained import fitted
from secateurs.graph import trace
from secateurs.graph.trace import forward
from secateurs.repair import bias_
from secateurs.structures.head import Head
from secateurs.structures.layer import Layer
from secateurs.structures.neuron import Neuron
from secateurs.types import Group, Plan

transformers = pytest.importorskip("transformers", reason="configs are those of transformers")
INPUTS = {"input_ids": torch.randint(0, 40, (2, 9), generator=torch.Generator().manual_seed(0))}


def llama(device: str = "cpu") -> nn.Module:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 40}
    config = transformers.LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **sizes)
    torch.manual_seed(0)
    with torch.device(device):
        return transformers.LlamaForCausalLM(config).eval()


def halved(groups: tuple[Group, ...]) -> Plan:
    return Plan({group.name: torch.arange(group.n_units) % group.block < group.block // 2 for group in groups})


def test_without_weights_the_shapes_are_enough() -> None:
    model = llama("meta")
    network = trace(model, INPUTS)
    groups = (*Head()(network), *Neuron()(network))
    outline = surgery.outlined(model, groups, halved(groups), network)
    config: Any = next(Search.of(outline, Transformers.of(model)).fits())
    assert (config["intermediate_size"], config["num_attention_heads"], config["num_key_value_heads"]) == (12, 2, 1)
    other = llama("meta")
    assert [it.shape for it in model.parameters()] == [it.shape for it in other.parameters()], "it is left as it is"


def test_layers_that_were_given_a_bias_bring_others_which_are_zero() -> None:
    model = llama()
    network = trace(model, INPUTS)
    groups = Neuron()(network)
    small = surgery.shrink(model, groups, halved(groups), network, INPUTS).model
    bias_(small, lacking(model, groups))
    with torch.no_grad():
        small.get_parameter("model.layers.1.mlp.down_proj.bias").fill_(0.5)
    found: Any = fitted(small, Transformers.of(model), INPUTS)
    assert found.config.mlp_bias and not found.config.attention_bias
    assert not found.get_parameter("model.layers.1.mlp.up_proj.bias").any()
    assert torch.equal(forward(found, INPUTS)[0], forward(small, INPUTS)[0])


def test_a_block_of_which_nothing_is_run_is_out_of_its_list() -> None:
    sizes = {"hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 3, "vocab_size": 40, "word_embed_proj_dim": 16}
    config = transformers.OPTConfig(num_attention_heads=4, max_position_embeddings=32, **sizes)
    model = transformers.OPTForCausalLM(config).eval()
    network = trace(model, INPUTS)
    groups = Layer()(network)
    plan = Plan({groups[0].name: torch.tensor([True, False, True])})
    small = surgery.shrink(model, groups, plan, network, INPUTS).model
    found: Any = fitted(small, Transformers.of(model), INPUTS)
    assert found.config.num_hidden_layers == 2
    assert torch.equal(forward(found, INPUTS)[0], forward(small, INPUTS)[0])


def test_what_no_config_says_has_no_candidate() -> None:
    model = llama("meta")
    network = trace(model, INPUTS)
    groups = Neuron()(network)
    plan = Plan({**halved(groups).keep, groups[0].name: torch.ones(24, dtype=torch.bool)})
    search = Search.of(surgery.outlined(model, groups, plan, network), Transformers.of(model))
    assert not list(islice(search.fits(), 1))
    assert "none fits model.layers.1.mlp" in str(search.refusal())
