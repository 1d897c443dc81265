"""Matthews correlation (Matthews 1975; many classes: Gorodkin 2004): 1 perfect, 0 no better than chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from secateurs.measures.instruments.predictions import labels, scored
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
        return scored("matthews", labels(model, task, self.split), self._score)

    @staticmethod
    def _score(true: NDArray[np.int64], predicted: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
        from sklearn.metrics import matthews_corrcoef

        return float(matthews_corrcoef(true, predicted, sample_weight=counts))
