"""The algorithm, step by step, on a network that prunes in a blink; killed, it ends as if it had not been."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from secateurs.measures.accuracy import Accuracy
from secateurs.recipe import Recipe, load_recipe
from secateurs.search import Algorithm1, Budget, Lexicographic, Outcome, Weights, states
from secateurs.search.journal import Journal
from secateurs.tasks.language_modelling import LanguageData, language_modelling
from secateurs.types import Reading, SecateursError, Task
from tasks.conftest import tiny_llama

HERE = Path(__file__).parent
trial = import_module("secateurs.search.trial")


@dataclass(frozen=True)
class Spy:
    """Accuracy that remembers what it read of whom."""

    split: str = "final"
    seen: list[tuple[str, int]] = field(default_factory=list)
    higher_is_better: ClassVar[bool] = True

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        self.seen.append((self.split, sum(p.numel() for p in model.parameters())))
        return Accuracy(self.split)(model, task)

    def __repr__(self) -> str:
        return "Spy"


def summary(outcome: Outcome) -> Any:
    """All that must not depend on noise or on interruptions."""
    rows = [(c.number, c.p, c.holds, c.seed, c.continued, c.quality, c.reason) for c in outcome.configurations]
    counted = {n: r.value for n, r in outcome.readings.items() if r.how == "counted"}
    return rows, outcome.held, outcome.chosen and outcome.chosen.number, counted, outcome.notes


def same_network(a: Outcome, b: Outcome) -> bool:
    one, two = a.model.state_dict(), b.model.state_dict()
    plans = [{n: k.tolist() for n, k in o.pruned.plan.keep.items()} if o.pruned else None for o in (a, b)]
    return plans[0] == plans[1] and one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


# ---------------------------------------------------------------------------------------------------- the algorithm


def test_the_largest_p_that_holds_is_found(
    tmp_path: Path, net: nn.Module, task: Task, recipe: Recipe, quick: None
) -> None:
    before = copy.deepcopy(net.state_dict())
    outcome = Algorithm1(0.05, confidence=0.5)(net, task, recipe, tmp_path)
    rows = outcome.configurations
    assert rows[0].p == 0.3
    assert [c.number for c in rows] == list(range(1, len(rows) + 1))
    assert [c.seed for c in rows] == [c.number for c in rows]
    for one in rows:
        assert one.quality is not None
        dense = Accuracy("select")(net, task).value
        assert one.holds is (one.quality.value >= dense - 0.05 - 1e-9)
        last = max((c.number for c in rows if c.number < one.number and c.holds), default=0)
        assert one.continued == last, "it goes on from the last that held"
    assert outcome.chosen is not None and outcome.pruned is not None
    assert outcome.chosen.p == max(c.p for c in rows if c.holds)
    assert outcome.readings["macs"].value == outcome.chosen.readings["macs"].value < outcome.dense["macs"].value
    assert not outcome.model.training and outcome.model is outcome.pruned.model
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items()), "W was changed"
    stored = sorted(path.name for path in (tmp_path / "states").iterdir())
    assert stored == [f"{c.number:03d}.safetensors" for c in rows if c.holds], "only what holds is kept"


def test_final_is_read_of_the_dense_and_the_chosen_network_only(
    tmp_path: Path, net: nn.Module, tasks: Callable[..., Task], recipe: Recipe, quick: None
) -> None:
    spy = Spy()
    outcome = Algorithm1(0.05)(net, tasks(spy), recipe, tmp_path)
    sizes = [int(outcome.dense["parameters"].value), int(outcome.readings["parameters"].value)]
    assert [seen for seen in spy.seen if seen[0] == "final"] == [("final", size) for size in sizes]
    assert outcome.held is (outcome.readings["accuracy"].value >= outcome.limit - 1e-9)
    assert outcome.limit == pytest.approx(outcome.dense["accuracy"].value - 0.05)
    spy.seen.clear()
    again = Algorithm1(0.05)(net, tasks(spy), recipe, tmp_path)
    assert spy.seen == [], "a finished search reads nothing again"
    assert summary(again) == summary(outcome) and same_network(again, outcome)
    assert again.readings == outcome.readings and again.ratio == outcome.ratio


def test_noise_in_time_and_energy_changes_nothing(
    tmp_path: Path, net: nn.Module, task: Task, recipe: Recipe, quick: None
) -> None:
    outcomes = [Algorithm1(0.05)(net, task, recipe, tmp_path / str(i)) for i in range(3)]
    assert all(summary(o) == summary(outcomes[0]) and same_network(o, outcomes[0]) for o in outcomes)


def test_the_seed_matters(tmp_path: Path, net: nn.Module, task: Task, recipe: Recipe, quick: None) -> None:
    one, two = (Algorithm1(0.05, seed=seed)(net, task, recipe, tmp_path / str(seed), p=0.3) for seed in (0, 7))
    assert (one.configurations[0].seed, two.configurations[0].seed) == (1, 8)
    assert one.configurations[0].quality != two.configurations[0].quality or not same_network(one, two)


def test_preference_and_front(tmp_path: Path, net: nn.Module, task: Task, recipe: Recipe, quick: None) -> None:
    by_macs = Algorithm1(0.1)(net, task, recipe, tmp_path)
    by_time = Algorithm1(0.1, preference=Lexicographic(("latency",)))(net, task, recipe, tmp_path)
    both = Algorithm1(0.1, preference=Weights({"latency": 1.0, "macs": 0.0}))(net, task, recipe, tmp_path)
    assert by_macs.chosen in by_macs.front and by_time.chosen in by_time.front
    assert by_time.front == by_macs.front == both.front, "another preference is no other search"
    assert by_time.chosen == min(by_time.front, key=lambda c: c.point["latency"]) == both.chosen
    assert by_macs.chosen == min(by_macs.front, key=lambda c: c.point["macs"])


def test_zeros_that_save_nothing_are_told_by_p_alone(
    tmp_path: Path, net: nn.Module, task: Task, recipe: Recipe, quick: None
) -> None:
    weights = Recipe.from_dict({**recipe.to_dict(), "structure": ["weight"]})
    outcome = Algorithm1(0.05)(net, task, weights, tmp_path)
    assert outcome.ratio["macs"].value == 1.0
    assert outcome.chosen is not None and outcome.front == (outcome.chosen,)
    assert outcome.chosen.p == max(c.p for c in outcome.configurations if c.holds)


def test_a_given_p_is_the_only_one(tmp_path: Path, net: nn.Module, task: Task, recipe: Recipe, quick: None) -> None:
    held = Algorithm1(0.5)(net, task, recipe, tmp_path / "held", p=0.2)
    assert [c.p for c in held.configurations] == [0.2] and held.chosen is not None and held.held
    fell = Algorithm1(0.0)(net, task, recipe, tmp_path / "fell", p=0.9)
    assert [c.p for c in fell.configurations] == [0.9]
    assert fell.unchanged and fell.model is net and fell.pruned is None and fell.chosen is None
    assert not fell.held and fell.front == ()
    assert fell.readings["macs"] == fell.dense["macs"] and fell.readings["accuracy"] == fell.dense["accuracy"]
    assert "no sparsity holds the bound: the network is returned unchanged" in fell.notes


@dataclass(frozen=True)
class Own:
    """A measure of the user's own: what each network gets, and no split."""

    dense: float
    pruned: float
    size: int
    higher_is_better: ClassVar[bool] = True

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        dense = sum(p.numel() for p in model.parameters()) == self.size
        return Reading("own", self.dense if dense else self.pruned, "1", "measured")


def test_if_nothing_holds_it_says_so(
    tmp_path: Path, net: nn.Module, tasks: Callable[..., Task], recipe: Recipe, quick: None
) -> None:
    size = sum(p.numel() for p in net.parameters())
    outcome = Algorithm1(0.01, tolerance=0.1)(net, tasks(Own(1.0, 0.5, size)), recipe, tmp_path)
    assert [c.p for c in outcome.configurations] == [0.3, 0.15, 0.075]
    assert outcome.unchanged and outcome.model is net and not outcome.held
    assert any("reads the same data" in note for note in outcome.notes)
    assert not (tmp_path / "states").exists()


@dataclass(frozen=True)
class Worse:
    """Holds on ``select`` and not on ``final``."""

    size: int
    split: str = "final"
    higher_is_better: ClassVar[bool] = True

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        dense = sum(p.numel() for p in model.parameters()) == self.size
        value = 1.0 if dense or self.split == "select" else 0.5
        return Reading("accuracy", value, "1", "measured", samples=50)


def test_a_bound_that_falls_on_final_is_told(
    tmp_path: Path, net: nn.Module, tasks: Callable[..., Task], recipe: Recipe, quick: None
) -> None:
    size = sum(p.numel() for p in net.parameters())
    outcome = Algorithm1(0.01)(net, tasks(Worse(size)), recipe, tmp_path, p=0.2)
    assert not outcome.held and outcome.pruned is not None
    notes = "\n".join(outcome.notes)
    assert "held on split 'select' and does not hold on split 'final'" in notes
    assert "epsilon 0.01 is below the resolution of split 'final': 50 examples" in notes


def test_what_the_allocation_refuses_is_not_tried(
    tmp_path: Path, net: nn.Module, task: Task, recipe: Recipe, quick: None
) -> None:
    floor = 1 - (2 * 2 + 4 + 4) / (24 * 24 + 4 * 24)  # of macs, with two neurons of every 24
    for allocation, most in (("global_rank", floor), ("uniform", 1 - 1 / 24)):
        one = Recipe.from_dict({**recipe.to_dict(), "allocation": allocation})
        outcome = Algorithm1(1 - 1e-9, start=0.7)(net, task, one, tmp_path / allocation)
        assert [c.p for c in outcome.configurations] == [0.7, pytest.approx(most, abs=2e-6)]
        assert all(c.quality is not None for c in outcome.configurations), "none was refused"
        assert any(f"p {outcome.configurations[1].p:g} is the most" in note for note in outcome.notes)
    with pytest.raises(SecateursError, match=r"p 0\.99"):
        Algorithm1(0.1)(net, task, recipe, tmp_path / "given", p=0.99)


def test_everything_is_measured_for_real(
    tmp_path: Path, net: nn.Module, task: Task, recipe: Recipe, budget: Budget
) -> None:
    outcome = Algorithm1(0.1, budget=budget)(net, task, recipe, tmp_path, p=0.3)
    for side in (outcome.dense, outcome.readings):
        assert side.keys() >= {"accuracy", "parameters", "macs", "latency"}
    assert outcome.ratio["latency"].spread is not None
    assert outcome.seconds > 0
    assert ("energy" in outcome.readings) or any("energy" in note for note in outcome.notes)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epsilon", float("nan")), ("epsilon", -0.1), ("start", 0), ("start", 1), ("tolerance", 0), ("seed", -1)],
)
def test_numbers_out_of_range(field: str, value: float) -> None:
    with pytest.raises(SecateursError, match=field):
        Algorithm1(**{"epsilon": 0.1, field: value})  # type: ignore[arg-type]


def test_bad_inputs_are_told_before_any_work(tmp_path: Path, net: nn.Module, task: Task, recipe: Recipe) -> None:
    with pytest.raises(SecateursError, match="p must be in"):
        Algorithm1(0.1)(net, task, recipe, tmp_path / "a", p=1.5)
    broken = copy.deepcopy(net)
    with torch.no_grad():
        broken[0].weight[0, 0] = float("nan")
    with pytest.raises(SecateursError, match="NaN"):
        Algorithm1(0.1)(broken, task, recipe, tmp_path / "a")
    with pytest.raises(SecateursError, match="forward pass fails"):
        Algorithm1(0.1)(nn.Linear(3, 1), task, recipe, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_another_search_in_the_directory_is_refused(
    tmp_path: Path, net: nn.Module, task: Task, recipe: Recipe, quick: None
) -> None:
    Algorithm1(0.1)(net, task, recipe, tmp_path, p=0.3)
    with pytest.raises(SecateursError, match=r"another epsilon \(0\.1 there, 0\.2 here\)"):
        Algorithm1(0.2)(net, task, recipe, tmp_path, p=0.3)


# ------------------------------------------------------------------------------------------------------ interrupted


class Interrupted(BaseException):
    """As Ctrl-C is: not an Exception."""


@pytest.fixture
def search(tmp_path: Path, net: nn.Module, task: Task, recipe: Recipe, quick: None) -> Callable[[str], Outcome]:
    return lambda name: Algorithm1(0.05, tolerance=0.04)(net, task, recipe, tmp_path / name)


@pytest.mark.parametrize(
    ("where", "name", "after"),
    [(trial, "prune", 1), (trial, "prune", 3), (states, "keep", 2), (Journal, "write", 2), (Journal, "write", 5)],
)
def test_interrupted_anywhere_it_ends_the_same(
    search: Callable[[str], Outcome], tmp_path: Path, where: Any, name: str, after: int
) -> None:
    original, calls = getattr(where, name), []

    def stopping(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == after:
            raise Interrupted
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(where, name, stopping)
        search("interrupted")
    done = (tmp_path / "interrupted" / "journal.jsonl").read_text()
    resumed, undisturbed = search("interrupted"), search("undisturbed")
    assert (tmp_path / "interrupted" / "journal.jsonl").read_text().startswith(done), "what was done was done again"
    assert summary(resumed) == summary(undisturbed)
    assert same_network(resumed, undisturbed)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import conftest
from secateurs.recipe import Recipe
from secateurs.search import Algorithm1, Budget, journal

write, lines = os.write, []

def half(handle, data):
    lines.append(data)
    if len(lines) < 5:  # inputs, dense, two configurations
        return write(handle, data)
    write(handle, bytes(data)[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

journal.os.write = half
short = Budget(1e-3, 1e-3, 1e-3, 1e-3)
recipe = Recipe.from_yaml(open(sys.argv[3]).read())
Algorithm1(0.05, tolerance=0.04, budget=short)(conftest.make_net(), conftest.make_task(), recipe, sys.argv[2])
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_killed_in_the_middle_of_a_line_it_ends_the_same(
    search: Callable[[str], Outcome], tmp_path: Path, recipe: Recipe
) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    command = [sys.executable, "-c", KILLED, HERE, tmp_path / "killed", tmp_path / "recipe.yaml"]
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    seen = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert seen.returncode == -signal.SIGKILL, seen.stderr
    content = (tmp_path / "killed" / "journal.jsonl").read_bytes()
    assert content.count(b"\n") == 4 and not content.endswith(b"\n")
    resumed, undisturbed = search("killed"), search("undisturbed")
    assert summary(resumed) == summary(undisturbed)
    assert same_network(resumed, undisturbed)


@pytest.mark.parametrize("name", ["slicegpt", "modegpt"])
def test_in_another_basis_it_ends_the_same_too(name: str, tmp_path: Path, quick: None) -> None:
    """The basis is found from batches that come in an order of their own each time, and found again."""
    model, ids = tiny_llama(), torch.randint(2, 32, (1200,), generator=torch.Generator().manual_seed(0))
    made = language_modelling(model, None, LanguageData(ids, length=8, count=16, batch_size=4))
    rows = [batch["input_ids"] for batch in made.splits["train"]]
    task = replace(made, splits={**made.splits, "train": Shuffled(torch.cat(rows), 4)})
    recipe = load_recipe(name)

    def search(place: str) -> Outcome:
        return Algorithm1(30.0, tolerance=0.2)(model, task, recipe, tmp_path / place)

    original, calls = trial.prune, []

    def stopping(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise Interrupted
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(trial, "prune", stopping)
        search("interrupted")
    torch.manual_seed(7)
    resumed, undisturbed = search("interrupted"), search("undisturbed")
    assert undisturbed.chosen is not None and undisturbed.pruned is not None and undisturbed.chosen.number > 1
    assert sum(p.numel() for p in undisturbed.model.parameters()) < sum(p.numel() for p in model.parameters())
    assert summary(resumed) == summary(undisturbed)
    assert same_network(resumed, undisturbed)


@dataclass(frozen=True)
class Shuffled:
    """Batches of token ids in an order that the global random state gives."""

    ids: torch.Tensor
    size: int

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for part in torch.randperm(len(self.ids)).split(self.size):
            yield {"input_ids": self.ids[part], "labels": self.ids[part]}
