"""Algorithm 1: the largest pruning for which A(W') >= A(W) - eps, with C, T and E measured and traded off.

The multi-objective pruning algorithm of the framework paper. Its inputs are the network W, its quality A(W), the
tolerated loss eps, the costs C(W) (computation), T(W) (time) and E(W) (energy), and optionally the pruning parameter p:

1. prune the fraction p of the least important;
2. measure C(W'), and check A(W') >= A(W) - eps;
3. measure T(W');
4. measure E(W');
5. adjust p: back off when A falls below the bound, go on while it holds, roll back to the last that held, until the
   bracket between what holds and what does not is narrow; the network recovers in between;
6. among the configurations that hold minimise C, T and E at once, and return W' with its metrics.

Steps 1 to 4 are in ``trial``, the next p of step 5 in ``bracket``, the front of step 6 in ``pareto``. What is evaluated
is decided by A alone: C, T and E, of which the last two are noisy, never change which p is tried. A is decided on the
split ``select``, with confidence (see ``bound``), and reported on ``final``, which is read for the dense and the chosen
network only.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from secateurs.graph import Graph
from secateurs.measures.instruments.forward import device_of
from secateurs.measures.instruments.meters import open_meter
from secateurs.prune import Pruned, check_reach, find_groups, reach, traced, unpruned
from secateurs.recipe import Recipe
from secateurs.search import states
from secateurs.search.bound import Bound, check_confidence, check_epsilon
from secateurs.search.bracket import DIGITS, Bracket
from secateurs.search.configuration import Configuration, unpack_reading
from secateurs.search.costs import Budget, Costs
from secateurs.search.inputs import inputs_of, sparsity_of
from secateurs.search.journal import Journal
from secateurs.search.outcome import Choice, Outcome, report
from secateurs.search.pareto import Lexicographic, Preference, front
from secateurs.search.seeded import seeded
from secateurs.search.trial import Trial
from secateurs.turning import turned
from secateurs.types import Price, SecateursError, Task, rounded_down

log = logging.getLogger("secateurs.search")


@dataclass(frozen=True)
class Algorithm1:
    """The search.

    Args:
        epsilon: How much of A may be lost, in A's own unit; below 1 where more of A is better.
        start: The first p, and the first step up.
        tolerance: The search ends when what holds and what does not lie closer than this.
        preference: Which of the front is taken.
        seed: Configuration k runs under ``seed + k``.
        budget: How long to measure T and E.
        confidence: With which A keeps its bound on the split that decides, one-sided, in [0.5, 1); 0.5: by its value.

    Raises:
        SecateursError: A number is outside its range.
    """

    epsilon: float
    start: float = 0.3
    tolerance: float = 0.02
    preference: Preference = field(default_factory=Lexicographic)
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_epsilon(self.epsilon, math.inf)
        check_confidence(self.confidence)
        if not 0 < self.start < 1:
            raise SecateursError(f"start must be in (0, 1), got {self.start:g}")
        if not 1e-4 <= self.tolerance < 1:
            raise SecateursError(f"tolerance must be in [0.0001, 1), got {self.tolerance:g}")
        if not 0 <= self.seed < 2**31:  # what torch and numpy both take, with room for every configuration's own
            raise SecateursError(f"seed must be 0 or more and below 2**31, got {self.seed}")

    def __call__(
        self, model: nn.Module, task: Task, recipe: Recipe, directory: str | Path, p: float | None = None
    ) -> Outcome:
        """Run it, or go on with it where the directory holds one that was interrupted.

        Args:
            model: W; left alone.
            task: Its splits ``select`` and ``final`` should be data that neither calibration nor healing sees.
            recipe: How to prune, and how to heal.
            directory: Where the journal and the networks that hold are kept; made where it is not there.
            p: Evaluate this sparsity only. None: search for the largest.

        Raises:
            SecateursError: The inputs cannot be used, the directory holds another search, the disk is full, or no p
                at all could be pruned.
        """
        p = sparsity_of(recipe, p)
        inputs = inputs_of(self, model, task, recipe, p)
        network = traced(model, task.example_inputs, recipe)
        with seeded(self.seed):  # a search that is resumed finds the same basis
            made, network = turned(model, task, recipe.basis, recipe.structure, recipe.calibration_batches, network)
        recipe = replace(recipe, basis=None)
        w = unpruned(made, find_groups(made, recipe.structure, network, task.example_inputs))
        bracket = self._bracket(recipe, w, network, p)
        with Journal(Path(directory), inputs) as journal:
            bound = self._bound(journal, model, task)
            costs = Costs(model, task, self.budget)
            trial = Trial(made, task, recipe, network, bound, costs, open_meter(device_of(model)))
            # Steps 1 to 5.
            found = self._adjust(trial, w, journal, bracket, 1 if p else None)
            # Step 6: minimise C, T and E among those that hold.
            choice = replace(self._choose(found), most=bracket.most)
            taken = states.restore(_path(journal, choice.number), made, w.groups) if choice.number else None
            return report(trial, journal, choice, taken)

    def _bound(self, journal: Journal, model: nn.Module, task: Task) -> Bound:
        """A(W) on the split that decides, once for the whole search."""
        for told in journal.of("dense"):
            return Bound(task, self.epsilon, "select", unpack_reading(told), model, self.confidence)
        bound = Bound.of(model, task, self.epsilon, "select")
        journal.write("dense", bound.dense)
        return replace(bound, model=model, confidence=self.confidence)

    def _bracket(self, recipe: Recipe, w: Pruned, network: Graph, p: float | None) -> Bracket:
        """Where the search begins, and the most that can be pruned; refused here, before anything is measured."""
        price = network.price(w.groups, recipe.allocation.currency)
        if p:
            _check_reach(recipe, w, p, price)
            return Bracket(p, self.tolerance)
        most = rounded_down(reach(recipe, w.groups, price), DIGITS)
        if not most:
            _check_reach(recipe, w, self.tolerance, price)
        return Bracket(self.start, self.tolerance, most=most)

    def _adjust(
        self, trial: Trial, w: Pruned, journal: Journal, bracket: Bracket, times: int | None
    ) -> tuple[Configuration, ...]:
        """Step 5: adjust p to the largest that holds; what the journal tells is not done again."""
        known = [Configuration.from_dict(line) for line in journal.of("configuration")]
        found: list[Configuration] = []
        last = 0  # the last configuration that held: what the next goes on from, and what a failure rolls back to
        while (at := bracket.next) is not None and len(found) != times:
            number = len(found) + 1
            if number <= len(known):
                one = _same(known[number - 1], at, journal)
            else:
                one = self._evaluate(trial, w, journal, Configuration(number, at, False, self.seed + number, last))
            found.append(one)
            bracket = bracket.narrowed(one.p, one.holds)
            last = number if one.holds else last
        if not any(one.quality for one in found):
            raise SecateursError(f"no sparsity can be pruned; p {found[-1].p:g}: {found[-1].reason}")
        return tuple(found)

    def _evaluate(self, trial: Trial, w: Pruned, journal: Journal, asked: Configuration) -> Configuration:
        """Steps 1 to 4 for one p, journalled. It goes on from the disk, so a search that was resumed does the same."""
        start = states.restore(_path(journal, asked.continued), trial.model, w.groups) if asked.continued else w
        found, pruned = trial(asked, start)
        if found.holds and pruned is not None:
            states.keep(_path(journal, asked.number), pruned)
        return Configuration.from_dict(journal.write("configuration", found))

    def _choose(self, found: Sequence[Configuration]) -> Choice:
        """Step 6: the front over C, T and E, and the one that the preference takes.

        What is counted alike differs in T and E by noise alone; there the largest p speaks for the others.
        """
        alike: dict[float, Configuration] = {}
        for one in sorted((c for c in found if c.holds), key=lambda c: c.p, reverse=True):
            alike.setdefault(one.readings["macs"].value, one)
        holding = list(alike.values())
        on_front = tuple(holding[i] for i in front([c.point for c in holding]))
        chosen = on_front[self.preference([c.point for c in on_front])] if on_front else None
        return Choice(tuple(found), on_front, chosen)


def _check_reach(recipe: Recipe, w: Pruned, p: float, price: Price) -> None:
    try:
        check_reach(recipe, w.groups, p, price)
    except SecateursError as error:
        raise SecateursError(f"p {p:g} is out of reach; {error}") from error


def _path(journal: Journal, number: int) -> Path:
    return journal.path.parent / "states" / f"{number:03d}.safetensors"


def _same(known: Configuration, p: float, journal: Journal) -> Configuration:
    if known.p != p:
        raise SecateursError(f"{journal.path} is damaged: it tells of p {known.p:g} where {p:g} comes next")
    return known
