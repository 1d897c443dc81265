from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from networks import trained_
from secateurs import evidence, surgery
from secateurs.allocations.uniform import Uniform
from secateurs.criteria.magnitude import Magnitude
from secateurs.criteria.wanda import Wanda
from secateurs.deploy import load, read_manifest, read_recipe, save
from secateurs.graph import trace
from secateurs.program import Program
from secateurs.prune import Pruned, find_groups, prune, rounds
from secateurs.recipe import Recipe
from secateurs.recoveries.fine_tune import FineTune
from secateurs.recoveries.nothing import Nothing
from secateurs.schedules.iterative import Iterative
from secateurs.search import states
from secateurs.solvers.sparsegpt import Sparsegpt
from secateurs.structures.channel import Channel
from secateurs.structures.n_m import NM
from secateurs.structures.neuron import Neuron
from secateurs.structures.weight import Weight
from secateurs.surgery import dense_facts
from secateurs.testing import example_model, example_task
from secateurs.types import Criterion, Need, SecateursError

SHAPES = (Channel(), Neuron())


def recipe(*structures: object, rounds: int = 3, heal: bool = False) -> Recipe:
    recovery = {"recovery": FineTune(epochs=0.5, learning_rate=1e-2)} if heal else {}
    return Recipe(structures or SHAPES, Magnitude(), schedule=Iterative(rounds), **recovery)  # type: ignore[arg-type]


def same_outputs(a: nn.Module, b: nn.Module) -> bool:
    images = torch.randn(5, 1, 8, 8)
    return torch.allclose(a.eval()(images), b.eval()(images), atol=1e-5)


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_rounds_rise_to_the_target_and_their_plans_nest() -> None:
    model, task = example_model(), example_task()
    before = values(model)
    found = list(rounds(model, task, recipe(heal=True), 0.6))
    assert [each.sparsity for each in found] == pytest.approx([0.2, 0.4, 0.6])
    for earlier, later in pairwise(found):
        for name, kept in later.plan.keep.items():
            assert not (kept & ~earlier.plan.keep[name]).any(), "what was dropped came back"
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_sparsity_is_met_in_the_currency_asked_for() -> None:
    model, task = example_model(), example_task()
    dense = trace(model, task.example_inputs)
    for sparsity in (0.3, 0.5):
        left = trace(prune(model, task, recipe(), sparsity).model, task.example_inputs).macs()
        assert left <= (1 - sparsity) * dense.macs()
        # One unit more would have been too many: no unit of this network costs a sixth of it.
        assert left > (1 - sparsity - 1 / 6) * dense.macs()


def test_the_small_network_and_the_masked_one_stay_the_same_network_while_they_heal() -> None:
    for pruned in rounds(example_model(), example_task(), recipe(heal=True), 0.5):
        assert same_outputs(pruned.model, pruned.masked)


def test_facts_of_the_small_network_are_those_of_the_masked_one_where_something_stays() -> None:
    model, task = example_model(), example_task()
    pruned = prune(model, task, recipe(), 0.5)
    kept = surgery.positions(model, pruned.groups, pruned.plan)
    masks = surgery.masks(model, pruned.groups, pruned.plan)
    needs, groups = frozenset[Need]({"gradient", "activation_norm", "gram"}), pruned.groups
    small, masked = (next(evidence.facts(m, task, needs, 1, groups)) for m in (pruned.model, pruned.masked))
    placed = dense_facts(small, pruned.model, pruned.masked, kept)
    for mine, theirs in ((placed.gradient, masked.gradient), (placed.activation_norm, masked.activation_norm)):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            mask = masks.get(name, torch.ones(()))
            assert torch.allclose(value * mask, theirs[name] * mask, atol=1e-5), name
    assert placed.gram.keys() == masked.gram.keys() == {"5.weight[1]", "8.weight[1]"}
    for where, gram in placed.gram.items():
        stays = gram.matrix.diagonal() != 0
        assert 0 < stays.sum() < len(stays), "nothing was placed"
        assert torch.allclose(gram.matrix, masked.gram[where].matrix * stays * stays[:, None], rtol=1e-4, atol=1e-4)


def test_training_between_rounds_is_kept() -> None:
    marked: Tensor | None = None
    for pruned in rounds(example_model(), example_task(), recipe(rounds=2), 0.4):
        if marked is None:
            with torch.no_grad():
                pruned.model[8].bias.add_(7)
            marked = pruned.model[8].bias.clone()
        else:
            assert torch.equal(pruned.model[8].bias, marked)


def test_going_on_from_a_result_keeps_what_was_trained_and_dropped() -> None:
    model, task = example_model(), example_task()
    first = prune(model, task, recipe(), 0.3)
    with torch.no_grad():
        first.model[8].bias.fill_(3)
    second = prune(model, task, recipe(), 0.6, start=first)
    assert second.sparsity == 0.6
    assert (second.model[8].bias == 3).all()
    for name, kept in second.plan.keep.items():
        assert not (kept & ~first.plan.keep[name]).any()


def test_single_weights_are_zeroed_by_exact_count_and_stay_zero_while_healing() -> None:
    made = Recipe((Weight(outputs=True),), Magnitude(), Uniform(), recovery=FineTune(epochs=0.5, learning_rate=1e-2))
    pruned = prune(example_model(), example_task(), made, 0.5)
    for name in ("0.weight", "5.weight", "8.weight"):
        weight = pruned.model.get_parameter(name)
        assert int((weight == 0).sum()) == weight.numel() // 2, name
    assert same_outputs(pruned.model, pruned.masked)


def test_two_of_every_four_weights_stay() -> None:
    made = Recipe((NM(2, 4, outputs=True, keep=("0.*",)),), Wanda(), Uniform())
    weight = prune(example_model(), example_task(), made, 0.5).model.get_parameter("5.weight")
    assert ((weight.reshape(-1, 4) != 0).sum(dim=1) == 2).all()


def test_structures_and_single_weights_in_one_recipe() -> None:
    made = Recipe((Neuron(), Weight(keep=("0.*",))), Magnitude(), Uniform())
    pruned = prune(example_model(), example_task(), made, 0.5)
    assert pruned.model[5].out_features == 6
    assert (pruned.model[5].weight == 0).any()
    assert same_outputs(pruned.model, pruned.masked)


def test_two_structures_must_not_claim_the_same_units() -> None:
    with pytest.raises(SecateursError, match="claim the same units"):
        prune(example_model(), example_task(), recipe(Channel(), Channel()), 0.5)


def test_nothing_to_prune_is_said() -> None:
    model, task = example_model(), example_task()
    with pytest.raises(SecateursError, match="nothing to prune"):
        find_groups(model, (Channel(keep=("*",)),), trace(model, task.example_inputs), task.example_inputs)


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -0.2, 1.5])
def test_a_sparsity_outside_its_range_is_refused(sparsity: float) -> None:
    with pytest.raises(SecateursError, match="sparsity"):
        prune(example_model(), example_task(), recipe(), sparsity)


@pytest.mark.parametrize("solver", [None, Sparsegpt()])
def test_weights_settled_one_after_the_other_stay_dropped_over_rounds(solver: Sparsegpt | None) -> None:
    model, task = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 4)), example_task()
    one_by_one = Recipe(
        (Weight(per="row"),), Wanda(), Uniform(), Iterative(2), FineTune(epochs=0.1), sequential=True, solver=solver
    )
    first, last = rounds(model, task, one_by_one, 0.5)
    for name, group in ((g.members[0].tensor, g) for g in last.groups):
        kept = last.plan.keep[group.name]
        assert not (kept & ~first.plan.keep[group.name]).any()
        assert set(kept.reshape(-1, group.block).sum(1).tolist()) == {group.block // 2}
        assert not last.model.get_parameter(name).flatten()[~kept].any()
    moved = last.model.get_parameter("1.weight") - model.get_parameter("1.weight")
    assert bool(moved.flatten()[last.plan.keep["1.weight"]].any())


def test_a_result_is_not_touched_by_the_rounds_after_it() -> None:
    found: list[Pruned] = []
    seen: list[dict[str, Tensor]] = []
    for pruned in rounds(example_model(), example_task(), recipe(heal=True), 0.6):
        found.append(pruned)
        seen.append(values(copy.deepcopy(pruned.model)))
    for pruned, before in zip(found, seen, strict=True):
        assert all(torch.equal(before[name], tensor) for name, tensor in pruned.model.state_dict().items())


def test_a_dim_that_python_holds_stays_whole_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(nn.Module):
        """The first of two hidden sizes is written in the code."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            hidden: Tensor = torch.relu(self.a(x)).view(-1, 6)
            out: Tensor = self.c(torch.relu(self.b(hidden)))
            return out

    model, inputs = Stubborn().eval(), (torch.randn(3, 4),)
    groups = find_groups(model, (Neuron(),), trace(model, inputs), inputs)
    assert [group.name for group in groups] == ["b.neurons"]
    assert "a.neurons stays: Python holds its size out of reach" in caplog.text


@pytest.mark.parametrize("criterion", [Magnitude(), Wanda()])
def test_how_little_the_structures_name_is_told(criterion: Criterion, caplog: pytest.LogCaptureFixture) -> None:
    task = example_task()
    layers = nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 4), nn.ReLU(), nn.Linear(4, 3)
    model = nn.Sequential(nn.Flatten(), *layers).eval()
    prune(model, task, Recipe((Neuron(),), criterion, Uniform()), 0.5)
    assert "of the parameters" not in caplog.text
    prune(model, task, Recipe((Neuron(keep=("1.*",)),), criterion, Uniform()), 0.5)
    assert caplog.text.count("the recipe's structures name 6.7 % of the parameters") == 1


class Watched(nn.Module):
    """Counts its passes; the size of its first hidden layer is written in the code, as it were."""

    passes = 0

    def __init__(self, size: int, written: str) -> None:
        super().__init__()
        self.written = written
        self.a, self.b, self.c = nn.Linear(64, size), nn.Linear(size, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        Watched.passes += 1
        hidden = torch.relu(self.a(x.flatten(1)))
        out: Tensor = self.c(torch.relu(self.b(hidden.view(-1, int(self.written or hidden.shape[1])))))
        return out


def test_what_is_cheap_to_decide_again_is_proven_once() -> None:
    """One pass for the trace, and two for the proof. Where data are looked at, trials come before it."""
    task = example_task()
    Watched.passes = 0
    pruned = prune(trained_(Watched(6, "")), task, Recipe((Neuron(),), Magnitude(), Uniform()), 0.5)
    assert Watched.passes == 3
    assert pruned.model.a.out_features == pruned.model.b.out_features == 3
    Watched.passes = 0
    next(rounds(trained_(Watched(6, "")), task, Recipe((Neuron(),), Wanda(), Uniform()), 0.5))
    assert Watched.passes >= 3 + 2 + 1


@pytest.mark.parametrize(("size", "sparsity"), [(6, 0.5), (2, 0.6)])
def test_where_the_proof_of_the_result_fails_it_is_decided_again(
    size: int, sparsity: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where too little would be left of what cannot be taken away in any case."""
    model, made = trained_(Watched(size, str(size))), Recipe((Neuron(),), Magnitude(), Uniform())
    pruned = prune(model, example_task(), made, sparsity)
    assert [group.name for group in pruned.groups] == list(pruned.plan.keep) == ["b.neurons"]
    assert pruned.model.a.out_features == size and pruned.model.b.out_features < 6
    assert same_outputs(pruned.model, pruned.masked)
    assert "a.neurons stays: Python holds its size out of reach" in caplog.text


def test_a_trace_at_hand_is_used() -> None:
    model, task = example_model(), example_task()
    network = trace(model, task.example_inputs)
    given, found = (prune(model, task, recipe(), 0.4, network=known) for known in (network, None))
    assert given.plan.keep.keys() == found.plan.keep.keys()
    assert all(torch.equal(given.plan.keep[name], kept) for name, kept in found.plan.keep.items())


class Written(nn.Module):
    """A size in the code, which no attribute repairs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = torch.relu(self.a(x.flatten(1))).view(-1, 6)
        out: Tensor = self.c(torch.relu(self.b(hidden)))
        return out


def test_what_python_holds_goes_where_the_recipe_lets_it_be_rewritten(tmp_path: Path) -> None:
    model, task = Written().eval(), example_task()
    plain = prune(model, task, recipe(Neuron(), heal=True), 0.4)
    assert isinstance(plain.model, Written)
    asked = replace(recipe(Neuron(), heal=True), rewrite=True)
    found = prune(model, task, asked, 0.4)
    assert isinstance(found.model, Program)
    assert {group.name for group in found.groups} == {"a.neurons", "b.neurons"}
    assert found.model.get_parameter("a.weight").shape[0] < 6
    assert same_outputs(found.model, found.masked)
    assert not torch.equal(found.masked.c.bias, model.c.bias), "it was not healed"

    states.keep(tmp_path / "state", found)
    back = states.restore(tmp_path / "state", model, found.groups)
    assert same_outputs(back.model, found.masked)
    further = [prune(model, task, replace(asked, recovery=Nothing()), 0.6, start=start) for start in (found, back)]
    assert same_outputs(further[0].model, further[1].model)

    save(tmp_path / "artifact", found, recipe=asked, manifest={}, build=None)
    assert read_manifest(tmp_path / "artifact")["rewritten"]
    assert same_outputs(load(tmp_path / "artifact"), found.masked)
    assert read_recipe(tmp_path / "artifact") == asked


def test_a_plain_module_is_preferred_to_a_rewritten_one() -> None:
    model, task = example_model(), example_task()
    assert type(prune(model, task, replace(recipe(), rewrite=True), 0.4).model) is type(model)


def test_what_cannot_be_rewritten_is_pruned_as_python_lets_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Branching(Written):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if float(x.sum()) < 1e6 else -x)

    found = prune(Branching().eval(), example_task(), replace(recipe(Neuron()), rewrite=True), 0.4)
    assert [group.name for group in found.groups] == ["b.neurons"]
    assert "the network cannot be rewritten: torch.export refuses it" in caplog.text


def test_a_pattern_that_keeps_nothing_is_refused_with_what_is_near() -> None:
    model, task = example_model(), example_task()
    name = find_groups(model, (Channel(),), trace(model, task.example_inputs), task.example_inputs)[0].name
    with pytest.raises(
        SecateursError, match=f"channel: keep '{name[:-1]}z' matches nothing of the network; near it: .*{name}"
    ):
        prune(model, task, recipe(Channel(keep=(f"{name[:-1]}z",))), 0.5)


def test_a_sparsity_out_of_reach_is_told_as_asked_and_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "facts", lambda *_: pytest.fail("data were looked at"))
    with pytest.raises(SecateursError, match=r"sparsity 0\.99 of macs is out of reach"):
        prune(example_model(), example_task(), recipe(), 0.99)
