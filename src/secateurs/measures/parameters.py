"""Parameters: how many numbers the model's parameters store; a tensor used in two places counts once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from secateurs.measures.instruments.tensors import distinct, stored
from secateurs.types import Reading, Task


@dataclass(frozen=True)
class Parameters:
    """Numbers stored in the parameters; buffers do not count, zeros do."""

    higher_is_better: ClassVar[bool] = False

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        value = sum(stored(parameter) for parameter in distinct(model.parameters()))
        return Reading("parameters", value, "parameters", "counted")
