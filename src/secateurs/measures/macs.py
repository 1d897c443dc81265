"""MACs: the multiply-accumulates that one forward pass on the example inputs executes. FLOPs = 2 x MACs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from secateurs.measures.instruments.counter import count_macs
from secateurs.measures.instruments.forward import shapes
from secateurs.types import Reading, Task


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates executed: a zero in a dense tensor costs what any number costs.

    The note names the shapes of the inputs, and the operators that ran and could not be counted.

    Raises:
        SecateursError: On the call: the forward pass fails on the example inputs.
    """

    higher_is_better: ClassVar[bool] = False

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        count = count_macs(model, task.example_inputs)
        note = f"inputs {shapes(task.example_inputs)}" + count.missed
        return Reading("macs", count.executed, "MAC", "counted", source="FlopCounterMode", note=note)
