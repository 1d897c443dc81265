"""The bound A(W') >= A(W) - eps, and what the data behind it can show."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from torch import nn

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
    """

    task: Task
    epsilon: float
    split: str
    dense: Reading

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

    def measure(self, model: nn.Module) -> Reading:
        """A(W')."""
        return on_split(self.task.quality, self.split)(model, self.task)

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
