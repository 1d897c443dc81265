"""Relative importance and activations (Zhang et al. 2024).

``(|w_ij| / sum_j |w_ij| + |w_ij| / sum_i |w_ij|) ||x_j||^a``: a weight counts by its share of its row and column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from secateurs.types import Need, Rows, SecateursError


@dataclass(frozen=True)
class Ria:
    """Share of a weight in its row plus that in its column, times a power of its input's norm; summed over a unit.

    The matrix is that of the weight where units are single weights; otherwise its rows are the units. Members that
    multiply no activation, such as biases, count nothing.

    Args:
        power: Of the input's norm, at least 0; the paper's a.

    Raises:
        SecateursError: The power is below 0, or no member of a group multiplies an activation.
    """

    power: float = 0.5

    needs: ClassVar[frozenset[Need]] = frozenset({"weight", "activation_norm"})

    def __post_init__(self) -> None:
        """Check the power."""
        if not 0 <= self.power < float("inf"):
            raise SecateursError(f"ria: power must be at least 0, got {self.power}")

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        scores = [
            (_relative(r) * r.activation_norm.float() ** self.power).sum(dim=1)
            for r in rows
            if r.activation_norm is not None
        ]
        if not scores:
            raise SecateursError("ria: no weight of the group multiplies an activation; use magnitude or taylor")
        return torch.stack(scores).sum(dim=0)


def _relative(rows: Rows) -> Tensor:
    """Share of each element in its row plus that in its column of its matrix, ``(n_units, n_elements)``."""
    size = rows.weight.float().abs()
    matrices = size.reshape(-1, rows.grid[0], prod(rows.grid[1:])) if rows.grid else size[None]
    least = torch.finfo(matrices.dtype).tiny
    parts = [matrices / matrices.sum(dim=dim, keepdim=True).clamp(min=least) for dim in (1, 2)]
    return (parts[0] + parts[1]).reshape(size.shape)
