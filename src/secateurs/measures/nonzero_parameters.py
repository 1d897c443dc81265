"""Non-zero parameters: how many of the numbers in the model's parameters are not zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from secateurs.measures.instruments.tensors import distinct, nonzero
from secateurs.types import Reading, Task


@dataclass(frozen=True)
class NonzeroParameters:
    """Parameters that are not zero; a tensor used in two places counts once, buffers do not count."""

    higher_is_better: ClassVar[bool] = False

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        value = sum(nonzero(parameter) for parameter in distinct(model.parameters()))
        return Reading("nonzero_parameters", value, "parameters", "counted")
