"""Loss: the mean of the task's own loss over a split, each batch weighted by the examples in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from secateurs.measures.instruments.forward import inference, rows_in
from secateurs.measures.instruments.predictions import batches
from secateurs.types import Reading, SecateursError, Task


@dataclass(frozen=True)
class Loss:
    """Mean of ``task.loss``.

    Args:
        split: Which split of the task to read.

    Raises:
        SecateursError: On the call: no such split, no data, a loss that is not one finite number.
    """

    split: str = "final"
    higher_is_better: ClassVar[bool] = False

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        total, seen = 0.0, 0
        with inference(model):
            for where, batch in batches(task, self.split):
                loss = task.loss(model, batch)
                if loss.numel() != 1:
                    raise SecateursError(f"loss gave {tuple(loss.shape)} on {where}: give one number, the batch's mean")
                if not math.isfinite(loss.item()):
                    raise SecateursError(
                        f"the loss on {where} is {loss.item()}: check the model's weights and the data"
                    )
                n = rows_in(batch)
                total, seen = total + n * loss.item(), seen + n
        if not seen:
            raise SecateursError(f"split {self.split!r} of task {task.name!r} holds no examples")
        return Reading("loss", total / seen, "1", "measured", samples=seen)
