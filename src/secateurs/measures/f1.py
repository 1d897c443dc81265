"""F1 (van Rijsbergen 1979): the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), over classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import nn

from secateurs.measures.instruments.predictions import Labels, labels, scored
from secateurs.types import Reading, SecateursError, Task

Average = Literal["macro", "weighted", "binary", "micro"]


@dataclass(frozen=True)
class F1:
    """F1 of the predicted classes, with a bootstrap interval over examples.

    Args:
        split: Which split of the task to read.
        average: ``macro``: mean over the classes seen; ``weighted``: by how often each is true; ``binary``: of class 1
            of two; ``micro``: over all decisions.

    Raises:
        SecateursError: Unknown ``average``, or ``binary`` on more than two classes; else as for accuracy.
    """

    split: str = "final"
    average: Average = "macro"
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.average not in get_args(Average):
            raise SecateursError(f"f1 has no average {self.average!r}: give one of {', '.join(get_args(Average))}")

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        return self.of(labels(model, task, self.split))

    def of(self, found: Labels) -> Reading:
        """The reading of these labels."""
        if self.average == "binary" and found.n_classes != 2:
            raise SecateursError(f"f1 with average 'binary' needs two classes, not {found.n_classes}: take 'macro'")
        return scored("f1", found, self.score)

    def score(self, true: NDArray[np.int64], predicted: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
        """Of pairs of labels, each seen so often."""
        from sklearn.metrics import f1_score

        return float(f1_score(true, predicted, average=self.average, sample_weight=counts, zero_division=0.0))
