from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from secateurs.recipe import part, part_names
from secateurs.solvers._support import support
from secateurs.testing import check_solver
from secateurs.types import Gram


@pytest.mark.parametrize("name", part_names("solver"))
def test_every_solver(name: str) -> None:
    check_solver(part("solver", name))


# ---------------------------------------------------------------------------------------- what must be caught


@dataclass(frozen=True)
class Keeper:
    fault: str = ""

    def __call__(self, weight: Tensor, gram: Gram, scores: Tensor, block: int, kept: int) -> tuple[Tensor, Tensor]:
        keep = support(-scores if self.fault == "loses" else scores, block, kept)
        values = weight * keep
        if self.fault == "changes":
            gram.matrix.add_(1)
        if self.fault == "keeps":
            keep = support(scores, block, kept - 1)
        if self.fault == "leaves":
            values = weight.clone()
        if self.fault == "finite":
            values = values / 0
        if self.fault == "back":
            values = torch.where(scores == -torch.inf, 1.0, values) * keep
        if self.fault == "second":
            values = values * (1 + 1e-3 * torch.rand(()))
        if self.fault == "bool":
            keep = keep.float()
        return keep, values


def test_a_sound_one_passes() -> None:
    check_solver(Keeper())


@pytest.mark.parametrize("fault", ["changes", "keeps", "leaves", "finite", "back", "second", "bool", "loses"])
def test_a_fault_is_caught(fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_solver(Keeper(fault))
