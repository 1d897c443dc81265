"""Accuracy: the fraction of examples whose best class is the true one. Interval: Wilson (1927)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from secateurs.measures.instruments.intervals import wilson
from secateurs.measures.instruments.predictions import labels
from secateurs.types import Reading, Task


@dataclass(frozen=True)
class Accuracy:
    """Fraction of examples predicted right, with its Wilson interval.

    Args:
        split: Which split of the task to read.

    Raises:
        SecateursError: On the call: no such split, no data, labels outside the model's classes, outputs not finite.
    """

    split: str = "final"
    higher_is_better: ClassVar[bool] = True

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        found = labels(model, task, self.split)
        n = len(found.true)
        right = int((found.predicted == found.true).sum())
        return Reading("accuracy", right / n, "1", "measured", spread=wilson(right, n), samples=n)
