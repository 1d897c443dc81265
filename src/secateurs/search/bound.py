"""The bound A(W') >= A(W) - eps, and what the data behind it can show.

Of many networks the search takes the one that lies closest to the bound, on a split of finitely many examples: by the
value alone it would take the luckiest, and every second one would miss the bound on other data. So A(W') is held to the
bound with confidence: over resamples of the examples that decide, each drawn for both networks at once, the loss stays
within eps in that share of them (paired bootstrap, Efron 1979).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from secateurs.measures.instruments.predictions import Labels, OfLabels, labels, surely_lost
from secateurs.search.seeded import seeded
from secateurs.types import Measure, Reading, SecateursError, Task

SLACK = 1e-9
"""A(W) - eps is rounded: 0.96 - 0.01 must not lie above 0.95."""


def check_epsilon(epsilon: float, below: float = 1.0) -> None:
    """Raise unless it is a tolerated loss.

    Args:
        epsilon: Of a measure that is a fraction.
        below: What it must be less than; infinity for a measure of which less is better, such as perplexity.

    Raises:
        SecateursError: It is outside [0, below).
    """
    if not 0 <= epsilon < below:
        raise SecateursError(f"epsilon must be in [0, {below:g}), got {epsilon:g}")


def check_confidence(confidence: float) -> None:
    """Raise unless it is a confidence that the value alone does not give already.

    Raises:
        SecateursError: It is outside [0.5, 1).
    """
    if not 0.5 <= confidence < 1:
        raise SecateursError(f"confidence must be in [0.5, 1), got {confidence:g}; 0.5 decides by the value alone")


def on_split(quality: Measure, split: str) -> Measure:
    """The measure, reading this split; as it is, where it has no field ``split``."""
    if not names_split(quality):
        return quality
    part: Any = quality
    moved: Measure = dataclasses.replace(part, split=split)
    return moved


def names_split(quality: object) -> bool:
    """Whether the measure says which split it reads."""
    return dataclasses.is_dataclass(quality) and any(f.name == "split" for f in dataclasses.fields(quality))


@dataclass(frozen=True)
class Bound:
    """What A(W') is held to on one split.

    Args:
        task: The quality measure, and the data.
        epsilon: How much may be lost.
        split: ``select`` decides, ``final`` reports.
        dense: A(W) on this split.
        model: W; None: W' is held to the value alone.
        confidence: With which the bound is to hold, one-sided; 0.5 is the value alone.
    """

    task: Task
    epsilon: float
    split: str
    dense: Reading
    model: nn.Module | None = None
    confidence: float = 0.5

    @classmethod
    def of(cls, model: nn.Module, task: Task, epsilon: float, split: str) -> Bound:
        """Measure A(W).

        Raises:
            SecateursError: It cannot be measured on this split, or is no number; or epsilon is not one for it.
        """
        check_epsilon(epsilon, 1.0 if task.quality.higher_is_better else math.inf)
        dense = on_split(task.quality, split)(model, task)
        if not math.isfinite(dense.value):
            raise SecateursError(f"{dense.measure} of the dense network on split {split!r} is {dense.value}: no bound")
        return cls(task, epsilon, split, dense)

    @property
    def limit(self) -> float:
        """The worst value that holds: A(W) - eps; A(W) + eps where lower is better."""
        loss = self.epsilon if self.task.quality.higher_is_better else -self.epsilon
        return self.dense.value - loss

    @cached_property
    def _answers(self) -> Labels | None:
        """What W says about this split; None where the value alone decides."""
        if self.model is None or self.confidence <= 0.5 or not isinstance(self.task.quality, OfLabels):
            return None
        return self._labels(self.model)

    def _labels(self, model: nn.Module) -> Labels:
        with seeded(0):  # in the same order for every network
            return labels(model, self.task, self.split)

    @property
    def by_value(self) -> bool:
        """Whether confidence was asked for, and the measure does not tell what it read example by example."""
        return self.confidence > 0.5 and not isinstance(self.task.quality, OfLabels)

    def measure(self, model: nn.Module) -> Reading:
        """A(W')."""
        return on_split(self.task.quality, self.split)(model, self.task)

    def judge(self, model: nn.Module) -> tuple[Reading, str | None]:
        """A(W'), and why it does not keep the bound with confidence; None where it does."""
        quality, before = on_split(self.task.quality, self.split), self._answers
        if before is None or not isinstance(quality, OfLabels):
            found = quality(model, self.task)
            return found, self.broken(found)
        after = self._labels(model)
        found = quality.of(after)
        return found, self.broken(found) or self._unsure(surely_lost(quality, before, after, self.confidence), found)

    def _unsure(self, lost: float, quality: Reading) -> str | None:
        if lost <= self.epsilon + SLACK:
            return None
        return f"loss may be {lost:.4f} ({self.confidence:.0%} sure, {quality.samples} examples)"

    def broken(self, quality: Reading) -> str | None:
        """Why the bound does not hold; None where it does."""
        if self.task.quality.higher_is_better:
            if quality.value >= self.limit - SLACK:
                return None
            return f"{quality.measure} {quality.value:.4f} is below {self.limit:.4f}"
        if quality.value <= self.limit + SLACK:
            return None
        return f"{quality.measure} {quality.value:.4f} is above {self.limit:.4f}"

    def doubt(self) -> str | None:
        """A line where eps is smaller than one example's worth of a measure that is a fraction of examples."""
        n = self.dense.samples
        if not n or self.dense.unit != "1" or not self.task.quality.higher_is_better or self.epsilon >= 1 / n:
            return None
        return (
            f"epsilon {self.epsilon:g} is below the resolution of split {self.split!r}: "
            f"{n} examples tell apart no less than {1 / n:.2g}"
        )
