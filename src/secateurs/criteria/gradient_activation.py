"""Gradients and activations: ``sum_e |w_e| (||x_e||_2 + alpha ||g_e||)`` (Das et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateurs.types import Need, Rows, SecateursError


@dataclass(frozen=True)
class GradientActivation:
    """Magnitude times the norm of the input plus that of the gradient, summed over the elements of a unit.

    The norm of the gradient is its mean magnitude over the batches: the paper's first norm. Members that multiply no
    activation, such as biases, count by their gradients alone.

    Args:
        alpha: What gradients count beside activations, at least 0.

    Raises:
        SecateursError: Alpha is below 0.
    """

    alpha: float = 100.0

    needs: ClassVar[frozenset[Need]] = frozenset({"weight", "gradient", "activation_norm"})

    def __post_init__(self) -> None:
        """Check alpha."""
        if not 0 <= self.alpha < float("inf"):
            raise SecateursError(f"gradient_activation: alpha must be at least 0, got {self.alpha}")

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        return torch.stack([self._one(r) for r in rows]).sum(dim=0)

    def _one(self, rows: Rows) -> Tensor:
        assert rows.gradient is not None
        factor = self.alpha * rows.gradient.float().abs()
        if rows.activation_norm is not None:
            factor = factor + rows.activation_norm.float()
        return (rows.weight.float().abs() * factor).sum(dim=1)
