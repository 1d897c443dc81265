from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from secateurs.recipe import part, part_names
from secateurs.testing import check_basis


@pytest.mark.parametrize("name", part_names("basis"))
def test_every_basis(name: str) -> None:
    check_basis(part("basis", name))


# ---------------------------------------------------------------------------------------- what must be caught


@dataclass(frozen=True)
class Identity:
    fault: str = ""

    def __call__(self, moments: Tensor, readers: Tensor, rotation: bool) -> Tensor:
        made = torch.eye(moments.shape[-1], dtype=torch.float64).repeat(len(moments), 1, 1)
        if self.fault == "changes":
            readers.add_(1)
        if self.fault == "float64":
            made = made.float()
        if self.fault == "second":
            made = made * torch.rand(()).double()
        if self.fault == "back":
            made = 2 * made
        return made


def test_units_as_they_are_conform() -> None:
    check_basis(Identity())


@pytest.mark.parametrize("fault", ["changes", "float64", "second", "back"])
def test_faults_are_found(fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_basis(Identity(fault))
