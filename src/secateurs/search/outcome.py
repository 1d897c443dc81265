"""What a search found: W', its metrics beside those of W, every configuration, and what a reader must know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import fsum

from torch import nn

from secateurs.prune import Pruned
from secateurs.search.bound import Bound, names_split
from secateurs.search.configuration import Configuration, Readings, unpack_readings
from secateurs.search.costs import Sides
from secateurs.search.journal import Journal
from secateurs.search.seeded import seeded
from secateurs.search.trial import Trial
from secateurs.types import Reading


@dataclass(frozen=True)
class Choice:
    """What was evaluated, what of it is not dominated, and what was taken.

    Args:
        configurations: In the order of evaluation.
        front: Those that hold and that none dominates in C, T and E; the largest p first.
        chosen: Of the front; None where none holds.
        most: The largest p that could be pruned at all; 1: any below it.
    """

    configurations: tuple[Configuration, ...]
    front: tuple[Configuration, ...]
    chosen: Configuration | None
    most: float = 1.0

    @property
    def number(self) -> int:
        """Of the chosen one; 0 is the dense network."""
        return self.chosen.number if self.chosen else 0


@dataclass(frozen=True)
class Outcome:
    """What Algorithm 1 returns.

    Args:
        model: W', on the device of W and in evaluation mode; W itself where no p holds.
        pruned: W' with its plan and repairs, to be saved; None where no p holds.
        held: Whether the bound holds for W' on the split ``final``; False where no p holds.
        epsilon: The tolerated loss.
        limit: The worst A on ``final`` that holds.
        dense: A on ``final``, ``parameters``, ``macs``, ``latency`` and ``energy`` of W, by measure.
        readings: The same of W'.
        ratio: Those of W' over those of W, A excepted.
        chosen: The configuration taken.
        front: The configurations that hold and that none dominates in C, T and E.
        configurations: All, in the order of evaluation.
        seconds: That the evaluations took, over all runs of a search that was resumed.
        spent: Joules that they took; None where no meter reads this machine.
        notes: One line each.
    """

    model: nn.Module
    pruned: Pruned | None
    held: bool
    epsilon: float
    limit: float
    dense: Readings
    readings: Readings
    ratio: Readings
    chosen: Configuration | None
    front: tuple[Configuration, ...]
    configurations: tuple[Configuration, ...]
    seconds: float
    spent: Reading | None
    notes: tuple[str, ...]

    @property
    def unchanged(self) -> bool:
        """Whether W is returned as it was."""
        return self.pruned is None


def report(trial: Trial, journal: Journal, choice: Choice, taken: Pruned | None) -> Outcome:
    """Read A on ``final``, C, T and E once more and longer, of W and of what was taken; and put it all together."""
    model = taken.model.eval() if taken else trial.costs.model
    bound, sides = _final(trial, journal, choice.number, model)
    quality = sides.pruned[bound.dense.measure]
    return Outcome(
        model=model,
        pruned=taken,
        held=taken is not None and bound.broken(quality) is None,
        epsilon=bound.epsilon,
        limit=bound.limit,
        dense=sides.dense,
        readings=sides.pruned,
        ratio=sides.ratio,
        chosen=choice.chosen,
        front=choice.front,
        configurations=choice.configurations,
        seconds=fsum(one.seconds for one in choice.configurations),
        spent=_spent(choice.configurations),
        notes=tuple(_notes(trial, bound, sides, choice)),
    )


def _final(trial: Trial, journal: Journal, number: int, model: nn.Module) -> tuple[Bound, Sides]:
    """The readings of the report; a search that is finished already has them in its journal."""
    for line in journal.of("final"):
        if line["number"] == number:
            told = Sides(*(unpack_readings(line[side]) for side in ("dense", "pruned", "ratio")))
            name = line["quality"]
            return Bound(trial.task, trial.bound.epsilon, "final", told.dense[name]), told
    with seeded(0):
        bound = Bound.of(trial.costs.model, trial.task, trial.bound.epsilon, "final")
        quality = bound.measure(model)
        costs = replace(trial.costs, budget=trial.costs.budget.final)
        sides = Sides({quality.measure: bound.dense}, {quality.measure: quality}, {})
        sides |= costs.computation(model) | costs.time(model) | costs.energy(model)
    line = {"number": number, "quality": quality.measure, **vars(sides)}
    journal.write("final", line)
    return bound, sides


def _unsure(bound: Bound, choice: Choice) -> Iterator[str]:
    """What to do where only confidence is missing."""
    within = [one for one in choice.configurations if one.quality and bound.broken(one.quality) is None]
    if within:
        yield (
            f"p {within[0].p:g} lost no more than epsilon, which {bound.dense.samples} examples do not show with "
            f"confidence {bound.confidence:g}: let more examples decide, or give a larger epsilon or less confidence"
        )


def _spent(configurations: tuple[Configuration, ...]) -> Reading | None:
    """Joules of all evaluations; None where one was not read, or where meters changed: those are never added up."""
    read = [one.spent for one in configurations if one.spent is not None]
    if len(read) < len(configurations) or len({(each.source, each.how) for each in read}) != 1:
        return None
    return replace(read[0], value=fsum(each.value for each in read))


def _notes(trial: Trial, final: Bound, sides: Sides, choice: Choice) -> Iterator[str]:
    quality = sides.pruned[final.dense.measure]
    yield from filter(None, (trial.bound.doubt(), final.doubt()))
    if not names_split(trial.task.quality):
        yield f"{quality.measure} reads the same data to decide and to report: the reported value flatters"
    if trial.bound.by_value:
        yield f"{quality.measure} decides by its value alone: there is no margin for the luck of the draw"
    if choice.chosen is None:
        yield "no sparsity holds the bound: the network is returned unchanged"
        yield from _unsure(trial.bound, choice)
    elif choice.chosen.p >= choice.most:
        yield f"p {choice.most:g} is the most that the recipe can take from this network: the bound may allow more"
    if choice.chosen and (broken := final.broken(quality)) is not None:
        yield f"the bound held on split 'select' and does not hold on split 'final': {broken}"
    if "energy" not in sides.pruned:
        yield "energy could not be read on this machine"
