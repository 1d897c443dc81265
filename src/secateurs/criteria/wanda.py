"""Weights and activations: ``sum_e |w_e| ||x_e||_2`` (Sun et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateurs.types import Need, Rows, SecateursError


@dataclass(frozen=True)
class Wanda:
    """Magnitude of a weight times the L2 norm of the input that it multiplies, summed over the elements of a unit.

    The paper compares the weights of one output row with each other: that is the structure's block (``weight`` with
    ``per: row``, or ``n_m``). Members that multiply no activation, such as biases, count nothing.

    Raises:
        SecateursError: No member of a group multiplies an activation.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"weight", "activation_norm"})

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        products = [
            (r.weight.float().abs() * r.activation_norm.float()).sum(dim=1)
            for r in rows
            if r.activation_norm is not None
        ]
        if not products:
            raise SecateursError("wanda: no weight of the group multiplies an activation; use magnitude or taylor")
        return torch.stack(products).sum(dim=0)
