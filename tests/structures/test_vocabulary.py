"""Tokens go from the embedding and from the layer that scores them; those that stay keep their numbers."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks import DECODER, ENCODER, VOCABULARY, causal_text, text, transformer
from secateurs import surgery, trials
from secateurs.allocations.uniform import Uniform
from secateurs.archive import pack_repairs, unpack_repairs
from secateurs.criteria.taylor import Taylor
from secateurs.deploy import save
from secateurs.deploy.build import Transformers
from secateurs.graph import Graph, trace
from secateurs.graph.agreement import reference
from secateurs.graph.statistics import passing
from secateurs.measures.accuracy import Accuracy
from secateurs.prune import Pruned, prune
from secateurs.recipe import Recipe
from secateurs.schedules.iterative import Iterative
from secateurs.structures.neuron import Neuron
from secateurs.structures.vocabulary import Vocabulary
from secateurs.structures.weight import Weight
from secateurs.types import Group, Inputs, Plan, SecateursError, Task

SPECIAL = (0, 1, 2)
SUBJECTS = {
    "classifier": (partial(transformer, "Bert", "ForSequenceClassification", **ENCODER), text),
    "masked": (partial(transformer, "Bert", "ForMaskedLM", **ENCODER), text),
    "untied": (partial(transformer, "Llama", "ForCausalLM", **DECODER), causal_text),
    "tied": (partial(transformer, "Llama", "ForCausalLM", **DECODER, tie_word_embeddings=True), causal_text),
}


@dataclass(frozen=True)
class Subject:
    model: nn.Module
    inputs: Inputs
    graph: Graph
    groups: tuple[Group, ...]
    plan: Plan

    def shrunk(self) -> surgery.Shrunk:
        return surgery.shrink(self.model, self.groups, self.plan, self.graph, self.inputs)

    def masked(self) -> nn.Module:
        masked = copy.deepcopy(self.model)
        surgery.mask_(masked, self.groups, self.plan)
        return masked


@cache
def subject(name: str) -> Subject:
    torch.manual_seed(0)
    build, inputs = SUBJECTS[name]
    model, example = build(), inputs(2, 6)
    graph = trace(model, example)
    groups = Vocabulary(keep_tokens=SPECIAL)(graph)
    return Subject(model, example, graph, groups, Plan({g.name: torch.arange(g.n_units) % 3 != 0 for g in groups}))


GONE = [i for i in range(3, VOCABULARY) if i % 3 == 0]
STAYS = [i for i in range(VOCABULARY) if i not in GONE]


@pytest.mark.parametrize("name", SUBJECTS)
def test_shrunk_computes_what_masked_does_and_costs_what_arithmetic_says(name: str) -> None:
    it = subject(name)
    [group] = it.groups
    assert (group.n_units, group.block) == (VOCABULARY - 3, VOCABULARY - 3)
    assert trials.provable(it.model, it.groups, it.graph, it.inputs) == (it.groups, {})
    small, fresh = it.shrunk().model, SUBJECTS[name][1](3, 9)
    assert reference(it.masked(), fresh, passing(it.graph, it.groups, it.plan)).difference(small) == ""
    sizes = surgery.sizes_after(it.groups, it.plan, it.graph)
    assert sizes == {group.name: len(STAYS)}
    assert sum(p.numel() for p in small.parameters()) == it.graph.parameters(sizes) < it.graph.parameters()
    assert trace(small, it.inputs).macs() == it.graph.macs(sizes)
    price = it.graph.price(it.groups, "parameters")
    saved = price.of({group.name: group.block}) - price.of({group.name: len(STAYS) - len(SPECIAL)})
    assert saved == it.graph.parameters() - it.graph.parameters(sizes)


@pytest.mark.parametrize("name", ["untied", "tied", "masked"])
def test_only_tokens_that_stay_have_scores(name: str) -> None:
    it = subject(name)
    small: Any = it.shrunk().model
    masked: Any = it.masked()
    mine, theirs = small(**it.inputs).logits, masked(**it.inputs).logits
    assert mine.shape == theirs.shape and bool((mine[..., GONE] == -torch.inf).all())
    torch.testing.assert_close(mine[..., STAYS], theirs[..., STAYS])
    labels = torch.tensor(STAYS)[torch.randint(len(STAYS), (2, 6))]
    assert small.config.vocab_size == VOCABULARY
    loss = small(**it.inputs, labels=labels).loss
    loss.backward()
    assert bool(loss.isfinite())
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in small.parameters())


@pytest.mark.parametrize("name", ["untied", "tied"])
def test_generate_gives_the_tokens_of_the_masked_network_among_those_that_stay(name: str) -> None:
    it = subject(name)
    ids = {key: it.inputs[key] for key in ("input_ids", "attention_mask")}  # type: ignore[call-overload]

    def tokens(model: Any, **settings: Any) -> list[list[int]]:
        out = model.generate(**ids, max_new_tokens=6, min_new_tokens=6, do_sample=False, **settings)
        found: list[list[int]] = out.tolist()
        return found

    small, wanted = it.shrunk().model, tokens(it.masked(), use_cache=False, suppress_tokens=GONE)
    assert tokens(small, use_cache=True) == tokens(small, use_cache=False) == wanted
    assert tokens(small, num_beams=2) == tokens(it.masked(), num_beams=2, suppress_tokens=GONE)


@pytest.mark.parametrize("name", ["classifier", "tied"])
def test_copied_and_exported(name: str) -> None:
    it = subject(name)
    small: Any = it.shrunk().model
    wanted = small(**it.inputs).logits
    again = copy.deepcopy(small)
    again.load_state_dict(small.state_dict())
    assert torch.equal(again(**it.inputs).logits, wanted)
    assert small.state_dict().keys() == it.model.state_dict().keys()
    exported = torch.export.export(small, (), dict(it.inputs)).module()  # type: ignore[arg-type]
    torch.testing.assert_close(exported(**it.inputs).logits, wanted)  # type: ignore[arg-type]


READ = """
import sys, torch
from secateurs.deploy import load
seen = torch.load(sys.argv[2])
assert torch.equal(load(sys.argv[1])(**seen["inputs"]).logits, seen["logits"])
assert not [name for name in sys.modules if name.startswith("secateurs.graph")]
"""


@pytest.mark.parametrize("name", ["classifier", "untied", "tied"])
def test_an_artifact_is_loaded_by_another_process(name: str, tmp_path: Path) -> None:
    it = subject(name)
    shrunk = it.shrunk()
    assert unpack_repairs(pack_repairs(shrunk.repairs)) == shrunk.repairs
    pruned = Pruned(shrunk.model, it.plan, shrunk.repairs, it.masked(), it.groups, 0.3)
    recipe = Recipe((Vocabulary(keep_tokens=SPECIAL),), Taylor(), Uniform())
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    save(tmp_path / "small", pruned, recipe=recipe, manifest={}, build=Transformers.of(it.model))  # type: ignore[arg-type]
    small: Any = shrunk.model
    torch.save({"inputs": it.inputs, "logits": small(**it.inputs).logits}, tmp_path / "seen")
    command = [sys.executable, "-c", READ, str(tmp_path / "small"), str(tmp_path / "seen")]
    subprocess.run(command, check=True)


def test_tokens_never_read_go_first_beside_neurons_in_rounds() -> None:
    it = subject("classifier")
    batch = {"input_ids": torch.tensor([[3, 4, 5, 6, 7, 8], [9, 8, 7, 6, 5, 4]]), "labels": torch.tensor([0, 2])}

    def loss(model: nn.Module, batch: Any) -> Tensor:
        out: Tensor = model(**batch).loss
        return out

    task = Task("tokens", it.inputs, {"train": [batch]}, loss, lambda m, b: (b, b), Accuracy())
    recipe = Recipe((Vocabulary(keep_tokens=SPECIAL), Neuron()), Taylor(), Uniform(), Iterative(2))
    pruned = prune(it.model, task, recipe, 0.5)
    [group] = [group for group in pruned.groups if "vocabulary" in group.name]
    kept = {i + 3 for i in pruned.plan.keep[group.name].nonzero().flatten().tolist()}
    assert {3, 4, 5, 6, 7, 8, 9} <= kept and len(kept) < 25
    assert it.model.get_parameter("bert.embeddings.word_embeddings.weight").shape == (VOCABULARY, 24)
    wanted: Any = pruned.masked.eval()
    small: Any = pruned.model.eval()
    torch.testing.assert_close(small(**it.inputs).logits, wanted(**it.inputs).logits)


def test_fields() -> None:
    graph = subject("untied").graph
    [group] = Vocabulary()(graph)
    assert group.n_units == VOCABULARY and {m.tensor for m in group.members} == {
        "model.embed_tokens.weight",
        "lm_head.weight",
    }
    assert Vocabulary(keep=("model.*",))(graph) == () == Vocabulary(smallest=41)(graph)
    with pytest.raises(SecateursError, match="keep_tokens"):
        Vocabulary(keep_tokens=(-1,))
    assert "lm_head.weight" in {group.name for group in Weight(outputs=True)(graph)}
