"""Layers are really skipped: what is left computes what it does with zeros in their place, for less."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from networks import DECODER, ENCODER, NETWORKS, VISION, VOCABULARY, causal_text, pixels, text, trained_, transformer
from secateurs import surgery, trials
from secateurs.allocations.global_rank import GlobalRank
from secateurs.criteria.magnitude import Magnitude
from secateurs.criteria.random import Random
from secateurs.criteria.taylor import Taylor
from secateurs.deploy import load, save
from secateurs.evidence import scores
from secateurs.graph import Graph, trace
from secateurs.graph.trace import forward
from secateurs.measures.accuracy import Accuracy
from secateurs.prune import prune
from secateurs.recipe import Recipe
from secateurs.recoveries.fine_tune import FineTune
from secateurs.repair import Skipped
from secateurs.schedules.iterative import Iterative
from secateurs.structures.channel import Channel
from secateurs.structures.layer import Layer
from secateurs.testing import example_task
from secateurs.types import Group, Inputs, Plan, Task

T5 = {"d_model": 24, "d_kv": 4, "d_ff": 20, "num_layers": 3, "num_heads": 3, "vocab_size": VOCABULARY}
DEEP: dict[str, tuple[Callable[[], nn.Module], Callable[[int, int], Inputs]]] = {
    "bert": (partial(transformer, "Bert", "ForSequenceClassification", **{**ENCODER, "num_hidden_layers": 3}), text),
    "llama": (partial(transformer, "Llama", "ForCausalLM", **{**DECODER, "num_hidden_layers": 4}), causal_text),
    "vit": (partial(transformer, "ViT", "ForImageClassification", **{**VISION, "num_hidden_layers": 3}), pixels),
    "t5": (partial(transformer, "T5", "ForConditionalGeneration", **T5), NETWORKS["t5"].inputs),
    "resnet": (
        partial(
            transformer,
            "ResNet",
            "ForImageClassification",
            embedding_size=6,
            hidden_sizes=[6, 10],
            depths=[3, 3],
            layer_type="basic",
            num_labels=3,
        ),
        pixels,
    ),
    "mobilenet_v2": (NETWORKS["mobilenet_v2"].build, NETWORKS["mobilenet_v2"].inputs),
}


@dataclass(frozen=True)
class Subject:
    model: nn.Module
    inputs: Inputs
    graph: Graph


@cache
def subject(name: str) -> Subject:
    torch.manual_seed(0)
    build, inputs = DEEP[name]
    model, example = build(), inputs(2, 6)
    return Subject(model, example, trace(model, example))


def skip(it: Subject, groups: tuple[Group, ...], plan: Plan) -> surgery.Shrunk:
    return surgery.shrink(it.model, groups, plan, it.graph, it.inputs)


@pytest.mark.parametrize("of", ["block", "branch"])
@pytest.mark.parametrize("name", DEEP)
def test_chains_can_be_skipped(name: str, of: Any) -> None:
    it = subject(name)
    groups = Layer(of=of)(it.graph)
    assert groups
    assert trials.provable(it.model, groups, it.graph, it.inputs) == (groups, {})


@pytest.mark.parametrize("of", ["block", "branch"])
@pytest.mark.parametrize("name", DEEP)
@settings(max_examples=3)
@given(data=st.data())
def test_skipped_and_zeroed_agree(name: str, of: Any, data: st.DataObject) -> None:
    it = subject(name)
    groups = Layer(of=of)(it.graph)
    plan = Plan({g.name: torch.tensor([data.draw(st.booleans()) for _ in range(g.n_units)]) for g in groups})
    shrunk, masked = skip(it, groups, plan), copy.deepcopy(it.model)
    surgery.mask_(masked, groups, plan)
    fresh = DEEP[name][1](3, 9)
    for mine, theirs in zip(forward(shrunk.model, fresh), forward(masked, fresh), strict=True):
        assert float((mine - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())

    gone = [s.module for residual in surgery.dropped_residuals(groups, plan) for s in residual.skips]
    left = it.graph.without(gone)
    assert sum(p.numel() for p in shrunk.model.parameters()) == left.parameters()
    assert trace(shrunk.model, it.inputs).macs() == left.macs()
    assert not any(key.startswith(f"{module}.") for key in shrunk.model.state_dict() for module in gone)
    if gone:
        assert left.parameters() < it.graph.parameters() and left.macs() < it.graph.macs()
        surgery.scatter_(masked, shrunk.model, groups, plan)
        assert torch.equal(forward(masked, fresh)[0], forward(masked, fresh)[0])


def test_units_are_whole_blocks_or_single_branches() -> None:
    graph = subject("llama").graph
    [blocks] = Layer()(graph)
    assert (blocks.name, blocks.n_units, blocks.block) == ("model.layers.*", 4, 4)
    assert {m.tensor for m in blocks.members if m.unit == 1} == {
        name for name in graph.tensors if name.startswith("model.layers.1.")
    }
    attention, ffn = Layer(of="branch")(graph)
    assert (attention.name, ffn.name) == ("model.layers.*.self_attn", "model.layers.*.mlp")
    assert "model.layers.0.input_layernorm.weight" in {m.tensor for m in attention.members if m.unit == 0}


def test_blocks_of_one_width_compete() -> None:
    """The first layer of a stage changes the width: there is nothing to leave its input to."""
    names = [[residual.name for residual in group.residuals] for group in Layer()(subject("resnet").graph)]
    stages = "resnet.encoder.stages"
    assert names == [[f"{stages}.0.layers.{i}" for i in (0, 1, 2)], [f"{stages}.1.layers.{i}" for i in (1, 2)]]


def test_a_block_whose_output_others_need_stays() -> None:
    """The first block of T5 makes the position bias of all."""
    encoder, decoder = Layer()(subject("t5").graph)
    assert [residual.name for residual in encoder.residuals] == ["encoder.block.1", "encoder.block.2"]
    assert [residual.name for residual in decoder.residuals] == ["decoder.block.1", "decoder.block.2"]


def test_a_norm_after_the_addition_stays() -> None:
    """Zeros cannot say that a norm is not run: of such a block the branches go."""
    it = subject("bert")
    [group] = Layer()(it.graph)
    plan = Plan({group.name: torch.tensor([True, False, True])})
    small = skip(it, (group,), plan).model
    assert [name for name in small.state_dict() if ".layer.1." in name] == [
        f"bert.encoder.layer.1.{norm}.LayerNorm.{kind}"
        for norm in ("attention.output", "output")
        for kind in ("weight", "bias")
    ]


def test_keep() -> None:
    graph = subject("llama").graph
    [group] = Layer(keep=("model.layers.0", "*.3"))(graph)
    assert [residual.name for residual in group.residuals] == ["model.layers.1", "model.layers.2"]
    last = Layer(keep=("*.[0-2]",))
    assert last(graph) == (), "one block alone has nobody to compete with"
    assert (
        last.why_none(graph)
        == "a block goes only where others like it stay, and there is just one block: model.layers.3"
    )
    assert Layer(keep=("*",)).why_none(graph) == ""


def test_a_network_of_one_block_says_so() -> None:
    model, inputs = (
        trained_(transformer("Llama", "ForCausalLM", **{**DECODER, "num_hidden_layers": 1})),
        causal_text(2, 8),
    )
    graph = trace(model, inputs)
    assert Layer()(graph) == () == Layer(of="branch")(graph)
    assert Layer().why_none(graph).endswith("there is just one block: model.layers.0.self_attn, model.layers.0.mlp")
    assert "each is the only one so: model.layers.0.self_attn" in Layer(of="branch").why_none(graph)


def tokens_task() -> Task:
    batches = [subject("llama").inputs]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        out: Tensor = model(**batch, labels=batch["input_ids"]).loss
        return out

    return Task("tokens", batches[0], {"train": batches}, loss, lambda model, batch: (batch, batch), Accuracy())


@pytest.mark.parametrize("criterion", [Magnitude(), Random()])
def test_criteria_rank_layers(criterion: Any) -> None:
    it = subject("llama")
    [group] = Layer()(it.graph)
    weak = copy.deepcopy(it.model)
    surgery.mask_(weak, [group], Plan({group.name: torch.tensor([True, True, False, True])}))
    found = scores(weak, [group], criterion, tokens_task(), 1)[group.name]
    assert found.shape == (4,) and found.argmin() == 2 and len(set(found.tolist())) == 4


def test_prices() -> None:
    """A block costs what it is made of: products of two activations too; half of the blocks cost half."""
    it = subject("llama")
    [group] = Layer()(it.graph)
    for currency, all_of_it in (("macs", it.graph.macs()), ("parameters", it.graph.parameters())):
        price = it.graph.price([group], currency)
        saved = price.of({group.name: 4}) - price.of({group.name: 2})
        assert saved == pytest.approx(2 * price.unit[group.name]) == pytest.approx(price.of({group.name: 2}))
        left = it.graph.without(["model.layers.0", "model.layers.3"])
        assert saved == all_of_it - (left.macs() if currency == "macs" else left.parameters())


def test_depth_and_width_together() -> None:
    it = subject("llama")
    [layers], dim = Layer()(it.graph), it.graph.dims["model.layers.1.mlp.ffn"]
    width = Group(dim.name, dim.size, it.graph.members(dim.name), dim.size, (dim.name,))
    plan = Plan({layers.name: torch.tensor([False, True, True, False]), width.name: torch.arange(dim.size) % 2 == 0})
    gone = Plan({layers.name: torch.tensor([True, False, True, True]), width.name: torch.arange(dim.size) % 2 == 0})
    for one in (plan, gone):
        small, masked = skip(it, (layers, width), one).model, copy.deepcopy(it.model)
        surgery.mask_(masked, (layers, width), one)
        assert torch.allclose(forward(small, it.inputs)[0], forward(masked, it.inputs)[0], atol=1e-5)


# ------------------------------------------------------------------------------------------------- the ecosystem


@pytest.mark.parametrize("of", ["block", "branch"])
@pytest.mark.parametrize("dropped", [[0], [1, 3]])
def test_generate_gives_the_tokens_of_the_masked_network(of: Any, dropped: list[int]) -> None:
    it = subject("llama")
    groups = Layer(of=of)(it.graph)
    plan = Plan({group.name: torch.tensor([i not in dropped for i in range(4)]) for group in groups[:1]})
    small, masked = skip(it, groups, plan).model, copy.deepcopy(it.model)
    surgery.mask_(masked, groups, plan)
    ids = {key: it.inputs[key] for key in ("input_ids", "attention_mask")}  # type: ignore[call-overload]

    def tokens(model: nn.Module, **settings: Any) -> list[list[int]]:
        out = model.generate(**ids, max_new_tokens=6, min_new_tokens=6, do_sample=False, **settings)  # type: ignore[operator]
        found: list[list[int]] = out.tolist()
        return found

    wanted = tokens(masked, use_cache=False)
    assert tokens(small, use_cache=False) == wanted
    assert tokens(small, use_cache=True) == wanted
    assert tokens(small, use_cache=True, cache_implementation="static", disable_compile=True) == wanted
    assert tokens(small, num_beams=2) == tokens(masked, num_beams=2)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_copied_and_exported(name: str) -> None:
    it = subject(name)
    groups = Layer()(it.graph)
    small = skip(it, groups, Plan({g.name: torch.arange(g.n_units) != 1 for g in groups})).model
    wanted = forward(small, it.inputs)[0]
    again = copy.deepcopy(small)
    again.load_state_dict(small.state_dict())
    assert torch.equal(forward(again, it.inputs)[0], wanted)
    assert sum(isinstance(module, Skipped) for module in again.modules()) == (1 if name == "llama" else 4)
    exported = torch.export.export(small, (), dict(it.inputs)).module()  # type: ignore[arg-type]
    assert torch.allclose(exported(**it.inputs).logits, wanted, atol=1e-5)  # type: ignore[arg-type]


class Normed(nn.Module):
    """Several residual additions of a plain network, each around layers of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU()) for _ in range(3))
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        out: Tensor = self.last(x)
        return out


class Adding(nn.Module):
    """Adds two convolutions of what it is given to it, and keeps what is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(6, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.f(x)).relu()


def convolutional() -> nn.Module:
    ends = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)
    return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), *(Adding() for _ in range(4)), *ends)


def test_layers_and_channels_go_in_rounds_and_come_back_from_an_artifact(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, task = convolutional().eval(), example_task()
    parts = (Taylor(), GlobalRank("macs", normalise="mean"), Iterative(2), FineTune(epochs=0.13, learning_rate=1e-3))
    recipe = Recipe((Layer(), Channel()), *parts)
    pruned = prune(model, task, recipe, 0.55)
    images = torch.randn(5, 1, 8, 8)
    before, after = (trace(m, task.example_inputs) for m in (model, pruned.model))
    assert after.macs() < 0.6 * before.macs()
    assert sum(isinstance(module, Skipped) for module in pruned.model.modules()) >= 1
    assert torch.allclose(pruned.model.eval()(images), pruned.masked.eval()(images), atol=1e-5)

    save(tmp_path / "small", pruned, recipe=recipe, manifest={}, build=None)
    loaded = load(tmp_path / "small", build=convolutional)
    assert torch.equal(loaded(images), pruned.model(images))
    assert loaded.state_dict().keys() == pruned.model.state_dict().keys() < model.state_dict().keys()


def test_branches_without_a_block_around_them() -> None:
    model, inputs = trained_(Normed()), (torch.randn(3, 4),)
    graph = trace(model, inputs)
    assert Layer()(graph) == ()
    [group] = Layer(of="branch")(graph)
    assert [residual.name for residual in group.residuals] == ["blocks.0", "blocks.1", "blocks.2"]
    small = surgery.shrink(model, [group], Plan({group.name: torch.tensor([True, False, False])}), graph, inputs).model
    assert [type(block) for block in small.blocks] == [nn.Sequential, Skipped, Skipped]  # type: ignore[union-attr, arg-type]
