"""Nominal MACs: the multiply-accumulates of a forward pass that would be left if every zero weight were free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from secateurs.measures.instruments.counter import count_macs
from secateurs.measures.instruments.forward import shapes
from secateurs.types import Reading, Task


@dataclass(frozen=True)
class NominalMacs:
    """Multiply-accumulates by weights that are not zero: what masks promise, and dense kernels do not pay out.

    Of each operator that multiplies by a weight tensor, the share of zeros in that tensor is taken off.

    Raises:
        SecateursError: On the call: the forward pass fails on the example inputs.
    """

    higher_is_better: ClassVar[bool] = False

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        count = count_macs(model, task.example_inputs)
        note = f"if zero weights were free; inputs {shapes(task.example_inputs)}" + count.missed
        return Reading("nominal_macs", count.nominal, "MAC", "counted", source="FlopCounterMode", note=note)
