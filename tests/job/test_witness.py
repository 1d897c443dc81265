"""The same network answers the same, another one does not, whatever its inputs and outputs look like."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateurs.job.witness import difference, write
from secateurs.types import Inputs, SecateursError


class Several(nn.Module):
    """Takes a flag beside a tensor, answers with a nested structure."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.drop = nn.Dropout()

    def forward(self, x: Tensor, double: bool = False) -> dict[str, Any]:
        y = self.drop(self.linear(x)) * (2 if double else 1)
        return {"ids": torch.ones(2, dtype=torch.long), "nested": [(y, None), y.sum()]}


@pytest.mark.parametrize(
    "inputs", [{"x": torch.randn(4, 3), "double": True}, (torch.randn(4, 3), True), (torch.randn(4, 3),)]
)
def test_a_copy_answers_the_same(tmp_path: Path, inputs: Inputs) -> None:
    model = Several().train()
    write(tmp_path / "w.safetensors", model, inputs)
    assert difference(tmp_path / "w.safetensors", copy.deepcopy(model)) == 0.0
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.linear.bias += 0.5
    assert difference(tmp_path / "w.safetensors", other) > 0.49


def test_other_shapes_are_another_network(tmp_path: Path) -> None:
    write(tmp_path / "w.safetensors", nn.Linear(3, 2), (torch.randn(4, 3),))
    with pytest.raises(SecateursError, match="other shapes"):
        difference(tmp_path / "w.safetensors", nn.Linear(3, 5))


def test_a_network_that_answers_nothing(tmp_path: Path) -> None:
    class Mute(nn.Module):
        def forward(self, x: Tensor) -> None: ...

    with pytest.raises(SecateursError, match="no tensor of floats"):
        write(tmp_path / "w.safetensors", Mute(), (torch.ones(1),))
