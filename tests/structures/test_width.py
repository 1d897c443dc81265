"""The residual stream of a transformer: what belongs to it, what it costs, and that pruning it goes all the way."""

from __future__ import annotations

import copy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks import ENCODER, NETWORKS, VOCABULARY
from secateurs import evidence, surgery
from secateurs.allocations.global_rank import GlobalRank
from secateurs.criteria.magnitude import Magnitude
from secateurs.criteria.taylor import Taylor
from secateurs.deploy import Transformers, save
from secateurs.graph import Graph, trace
from secateurs.graph.statistics import reference
from secateurs.graph.trace import forward
from secateurs.measures.loss import Loss
from secateurs.prune import prune, rounds
from secateurs.recipe import Recipe
from secateurs.recoveries.batch_norm import BatchNorm
from secateurs.recoveries.fine_tune import FineTune
from secateurs.schedules.iterative import Iterative
from secateurs.structures.channel import Channel
from secateurs.structures.head import Head
from secateurs.structures.neuron import Neuron
from secateurs.structures.width import Width
from secateurs.types import Inputs, Task

BATCH, LENGTH = 2, 6
TOKENS = BATCH * LENGTH


@cache
def traced(name: str) -> tuple[nn.Module, Inputs, Graph]:
    torch.manual_seed(0)
    model, inputs = NETWORKS[name].build(), NETWORKS[name].inputs(BATCH, LENGTH)
    return model, inputs, trace(model, inputs)


def task(name: str) -> Task:
    """Labels, or next tokens, of random text."""
    classes = 3 if name == "bert" else VOCABULARY

    def predict(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        inputs, targets = batch
        return model(**inputs).logits.flatten(0, -2), targets.flatten()

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(*predict(model, batch))

    shape = (BATCH,) if name == "bert" else (BATCH, LENGTH)
    batches = [(NETWORKS[name].inputs(BATCH, LENGTH), torch.randint(classes, shape)) for _ in range(3)]
    splits = {"train": batches, "select": batches, "final": batches}
    return Task(name, traced(name)[1], splits, loss, predict, Loss())


def test_everything_that_reads_or_writes_the_stream_belongs_to_it() -> None:
    [group] = Width()(traced("llama")[2])
    assert (group.n_units, group.block) == (24, 24)
    norms = ("input_layernorm", "post_attention_layernorm")
    layer = [("q", 1), ("k", 1), ("v", 1), ("o", 0)]
    assert {(m.tensor, m.dims) for m in group.members} == {
        ("model.embed_tokens.weight", (1,)),
        ("model.norm.weight", (0,)),
        ("lm_head.weight", (1,)),
        *((f"model.layers.{i}.self_attn.{name}_proj.weight", (axis,)) for i in range(2) for name, axis in layer),
        *((f"model.layers.{i}.mlp.{name}_proj.weight", (1,)) for i in range(2) for name in ("gate", "up")),
        *((f"model.layers.{i}.mlp.down_proj.weight", (0,)) for i in range(2)),
        *((f"model.layers.{i}.{name}.weight", (0,)) for i in range(2) for name in norms),
    }
    [tied] = Width()(traced("gpt2")[2])
    assert ("transformer.wte.weight", (1,)) in {(m.tensor, m.dims) for m in tied.members}


def test_other_structures_leave_flagged_dims_alone() -> None:
    for name in ("bert", "llama", "convnext", "squeeze_excitation"):
        graph = traced(name)[2]
        for structure in (Channel(), Neuron(), Head(), Head(of="query")):
            assert not any(graph.dims[dim].flagged for group in structure(graph) for dim in group.dims)
    assert Width(keep=("*",))(traced("bert")[2]) == ()


def test_channels_inside_the_groups_of_a_group_norm_compete_there() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(4, 8), nn.ReLU(), nn.Conv2d(8, 3, 1))
    [group] = Width()(trace(net, (torch.randn(2, 3, 4, 4),)))
    assert (group.n_units, group.block) == (8, 2)
    [shared] = Width()(traced("squeeze_excitation")[2])  # a grouped convolution shares its inputs among the groups
    assert (shared.n_units, shared.block) == (2, 2)


def test_a_unit_costs_its_share_of_every_product() -> None:
    graph = traced("bert")[2]
    groups = Width()(graph)
    [name] = [group.name for group in groups]
    ffn, layers = ENCODER["intermediate_size"], ENCODER["num_hidden_layers"]
    per_layer = TOKENS * (4 * 24 + 2 * ffn)  # query, key, value, output; up, down
    macs = graph.price(groups, "macs")
    assert macs.unit[name] == layers * per_layer + BATCH * 24  # and the pooler, which reads one token
    assert macs.of({name: 24}) - macs.of({name: 17}) == 7 * macs.unit[name]
    embeddings = VOCABULARY + ENCODER["max_position_embeddings"] + 2 + 2  # words, positions, types, and a norm
    per_layer = 4 * 24 + 1 + 2 + 2 * ffn + 1 + 2  # with the biases of output and down, and two norms
    assert graph.price(groups, "parameters").unit[name] == embeddings + layers * per_layer + 24


@pytest.mark.parametrize("name", ["bert", "llama"])
@pytest.mark.parametrize("criterion", [Magnitude(), Taylor()], ids=str)
def test_pruning_a_width(name: str, criterion: Any) -> None:
    model, inputs, graph = traced(name)
    recipe = Recipe((Width(),), criterion, GlobalRank("macs"))
    pruned = prune(model, task(name), recipe, 0.3)
    [kept] = [int(keep.sum()) for keep in pruned.plan.keep.values()]
    [group] = pruned.groups
    macs = trace(pruned.model, inputs).macs()
    price = graph.price(pruned.groups, "macs")
    assert graph.macs() - macs == (24 - kept) * price.unit[group.name]
    assert price.of({group.name: kept}) <= 0.7 * price.of({group.name: 24}) < price.of({group.name: kept + 1})
    masked = copy.deepcopy(model)
    surgery.mask_(masked, pruned.groups, pruned.plan)
    fresh = NETWORKS[name].inputs(3, 9)
    (wanted, *_), (got, *_) = reference(masked, fresh, graph, pruned.groups, pruned.plan), forward(pruned.model, fresh)
    assert float((got - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    assert float((got - forward(masked, fresh)[0]).abs().max()) > 1e-2 * float(wanted.abs().max()), "zeros are seen"


def test_rounds_score_the_small_network_and_heal_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The masked network takes its norms over zeros: from the second round on the facts are those of the small one."""
    model, inputs, graph = traced("llama")
    widths, facts = [], evidence.facts

    def watched(model: nn.Module, *rest: Any) -> Any:
        widths.append(model.get_parameter("model.norm.weight").numel())
        return facts(model, *rest)

    monkeypatch.setattr(evidence, "facts", watched)
    heal = FineTune(epochs=1, learning_rate=1e-2)
    recipe = Recipe((Width(), Neuron()), Taylor(), schedule=Iterative(2), recovery=heal)
    first, second = rounds(model, task("llama"), recipe, 0.4)
    assert widths == [24, first.model.get_parameter("model.norm.weight").numel()]
    assert second.plan.sparsity > first.plan.sparsity > 0
    for name, keep in second.plan.keep.items():
        assert not bool((keep & ~first.plan.keep[name]).any())
    assert first.model.get_parameter("lm_head.weight").norm() != second.model.get_parameter("lm_head.weight").norm()
    (wanted, *_) = reference(second.masked, inputs, graph, second.groups, second.plan)
    assert float((forward(second.model, inputs)[0] - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


RELOAD = """
import sys, torch
from secateurs.deploy import load
torch.save(load(sys.argv[1])(**torch.load(sys.argv[2])).logits, sys.argv[3])
"""


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_narrower_network_comes_back_in_a_new_process(name: str, tmp_path: Path) -> None:
    model, inputs, _ = traced(name)
    recipe = Recipe((Width(multiple=4),), Magnitude(), recovery=BatchNorm())
    pruned = prune(model, task(name), recipe, 0.3)
    assert [int(keep.sum()) for keep in pruned.plan.keep.values()] == [16]
    save(tmp_path / "a", pruned, recipe=recipe, manifest={}, build=Transformers.of(model))
    torch.save(dict(inputs), tmp_path / "inputs")
    subprocess.run([sys.executable, "-c", RELOAD, *(tmp_path / part for part in ("a", "inputs", "logits"))], check=True)
    assert torch.equal(torch.load(tmp_path / "logits"), forward(pruned.model, inputs)[0])
