"""Matthews correlation (Matthews 1975; many classes: Gorodkin 2004): 1 perfect, 0 no better than chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from secateurs.measures.instruments.predictions import Labels, labels, scored
from secateurs.types import Reading, Task


@dataclass(frozen=True)
class Matthews:
    """Correlation between predicted and true classes, with a bootstrap interval over examples.

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
        return scored("matthews", found, self.score)

    def score(self, true: NDArray[np.int64], predicted: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
        """Of pairs of labels, each seen so often."""
        from sklearn.metrics import matthews_corrcoef

        return float(matthews_corrcoef(true, predicted, sample_weight=counts))
