"""Fluctuation of what a unit hands on: ``sum_e w_e^2 Var(x_e)`` (An et al. 2024, FLAP, arXiv:2312.11983)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateurs.types import Need, Rows, SecateursError


@dataclass(frozen=True)
class Fluctuation:
    """Variance of the input that a unit is to others, times the squared norm of the weights that multiply it.

    It is what is lost of the next layer's outputs when the unit is replaced by its mean, inputs taken as independent:
    with the recovery ``bias`` nothing else is. Only the weights that read a unit count, not those that make it. Layers
    differ in scale; ``global_rank`` with ``normalise: standard`` compares them as the paper does.

    Raises:
        SecateursError: No member of a group reads what goes with a unit.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"weight", "activation_variance"})

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        read = [(r.weight, r.activation_variance) for r in rows if r.activation_variance is not None]
        if not read:
            raise SecateursError("fluctuation: no weight of the group reads what its units make; use taylor")
        return torch.stack([(w.float().square() * variance.float()).sum(dim=1) for w, variance in read]).sum(dim=0)
