"""The recipe modegpt on networks with rotary embeddings and grouped queries, and with a fused projection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks import trained_
from secateurs import Recipe, evidence, load_recipe, prune, surgery
from secateurs.criteria.leverage import Leverage
from secateurs.criteria.random import Random
from secateurs.deploy import Transformers, load, save
from secateurs.graph import trace
from secateurs.graph.trace import forward
from secateurs.measures.loss import Loss
from secateurs.prune import Pruned
from secateurs.recoveries.nothing import Nothing
from secateurs.structures.head import Head
from secateurs.types import Need, Task

IDS = torch.randint(0, 48, (8, 24), generator=torch.Generator().manual_seed(1))
KINDS = ("Llama", "GPT2")


@cache
def network(kind: str) -> nn.Module:
    import transformers

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "GPT2":
        sizes = {"n_embd": 32, "n_inner": 48, "n_layer": 2, "n_head": 4, "n_positions": 32}
    fields = sizes | {"vocab_size": 48, "bos_token_id": None, "eos_token_id": None, "use_cache": False}
    grouped = {} if kind == "GPT2" else {"num_key_value_heads": 2, "pad_token_id": None}
    name = {"GPT2": "GPT2LMHeadModel"}.get(kind, f"{kind}ForCausalLM")
    return trained_(getattr(transformers, name)(getattr(transformers, f"{kind}Config")(**fields, **grouped)))


def task() -> Task:
    def loss(net: nn.Module, batch: Any) -> Tensor:
        found: Tensor = net(**batch, labels=batch["input_ids"]).loss
        return found

    batches = [{"input_ids": ids} for ids in IDS.split(4)]
    return Task("text", {"input_ids": IDS[:2, :8]}, {"train": batches}, loss, None, Loss())  # type: ignore[arg-type]


def recipe(**changes: Any) -> Recipe:
    return replace(load_recipe("modegpt"), calibration_batches=2, **changes)


@cache
def pruned(kind: str) -> Pruned:
    return prune(network(kind), task(), recipe(recovery=Nothing()), 0.25)


def error(kind: str, out: Pruned) -> float:
    """Of the logits on calibration data."""
    with torch.no_grad():
        wanted, got = (net(input_ids=IDS).logits for net in (network(kind), out.model))
    return float((wanted - got).square().mean())


@pytest.mark.parametrize("kind", KINDS)
def test_masked_and_shrunk_agree_and_a_quarter_of_everything_inside_blocks_is_gone(kind: str) -> None:
    out, fresh = pruned(kind), {"input_ids": torch.randint(0, 48, (3, 11))}
    [wanted], [got] = (forward(net, fresh)[:1] for net in (out.masked, out.model))
    assert torch.allclose(wanted, got, atol=1e-4)
    assert {group.block - int(out.plan.keep[group.name].sum()) // group.n_blocks for group in out.groups} == (
        {12, 2} if kind == "GPT2" else {12, 2, 1}  # neurons of 48, dims of 8, rotary pairs of 4
    )
    named = network(kind).named_parameters()
    matrices = [name for name, p in named if p.dim() == 2 and (".layers." in name or ".h." in name)]
    left, dense = (sum(net.get_parameter(name).numel() for name in matrices) for net in (out.model, network(kind)))
    assert left == dense * 3 // 4


@pytest.mark.parametrize("kind", KINDS)
def test_less_is_lost_than_by_chance_and_than_without_a_basis(kind: str) -> None:
    mine = error(kind, pruned(kind))
    assert mine < error(kind, prune(network(kind), task(), recipe(recovery=Nothing(), basis=None), 0.25))
    others = [prune(network(kind), task(), recipe(recovery=Nothing(), criterion=Random(seed)), 0.25) for seed in (0, 1)]
    assert all(mine < error(kind, other) for other in others)
    assert error(kind, prune(network(kind), task(), recipe(), 0.25)) < mine  # least squares, after it


@pytest.mark.parametrize("kind", KINDS)
def test_what_queries_and_keys_are_worth(kind: str) -> None:
    """Pairs of positions are turned by their place, which leaves their length: what the projections give decides."""
    model, graph = network(kind), trace(network(kind), task().example_inputs)
    group = next(group for group in Head(of="dim")(graph) if group.meetings)
    found = evidence.scores(model, [group], Leverage(), task(), 2)[group.name]
    given: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, args, out: given.update({name: out.flatten(0, 1).norm(dim=0)})

    names = [name for name, _ in model.named_modules() if name.endswith(("c_attn", "q_proj", "k_proj"))]
    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    with torch.no_grad():
        model(input_ids=IDS)
    for handle in handles:
        handle.remove()
    if kind == "GPT2":  # 4 heads of 8: queries, then keys
        q, k, _ = given["transformer.h.0.attn.c_attn"].split(32)
        wanted = q * k
    else:  # 2 key-value heads of 4 pairs, 2 queries to each
        wanted = torch.zeros(4)
        for layer in range(2):
            q, k = (given[f"model.layers.{layer}.self_attn.{it}_proj"].view(2, -1, 4) for it in "qk")
            wanted += (q.norm(dim=1) * k.norm(dim=1)).sum(dim=0)
    assert torch.allclose(found, wanted, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_an_artifact_comes_back(kind: str, tmp_path: Path) -> None:
    out = pruned(kind)
    save(tmp_path / "artifact", out, recipe=recipe(), manifest={}, build=Transformers.of(network(kind)))
    again = load(tmp_path / "artifact")
    assert torch.equal(forward(again, {"input_ids": IDS})[0], forward(out.model, {"input_ids": IDS})[0])


@pytest.mark.parametrize("kind", KINDS)
def test_norms_found_in_the_small_network_are_those_of_the_masked_one(kind: str) -> None:
    out, needs = pruned(kind), frozenset[Need]({"product_norm"})
    small, masked = (next(evidence.facts(net, task(), needs, 2, out.groups)) for net in (out.model, out.masked))
    placed = surgery.dense_facts(small, out.model, out.masked, surgery.positions(out.masked, out.groups, out.plan))
    assert placed.output_norm.keys() == masked.output_norm.keys() != set() and not masked.gram
    for where, norm in masked.output_norm.items():
        assert torch.allclose(placed.output_norm[where], norm, rtol=1e-3, atol=1e-4)
