"""Accuracy: the fraction of examples whose best class is the true one. Interval: Wilson (1927)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from secateurs.measures.instruments.intervals import wilson
from secateurs.measures.instruments.predictions import Labels, labels
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
        return self.of(labels(model, task, self.split))

    def of(self, found: Labels) -> Reading:
        """The reading of these labels."""
        n = len(found.true)
        right = int((found.predicted == found.true).sum())
        return Reading("accuracy", right / n, "1", "measured", spread=wilson(right, n), samples=n)

    def score(self, true: NDArray[np.int64], predicted: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
        """Of pairs of labels, each seen so often."""
        return float(counts[true == predicted].sum() / counts.sum())
