"""Optimal brain surgeon by the loss (Wang et al. 2019, EigenDamage; van der Ouderaa et al. 2024, LLM Surgeon).

Kronecker-factored curvature (Martens & Grosse 2015): of a weight with inputs ``x`` and gradients ``g`` of the loss by
its outputs, ``G = E[x x^T]`` and ``F = E[g g^T]``, taken as independent. A change ``D`` of the weight, ``(f, o)``, then
adds ``tr(F D^T G D)`` to the loss, but for a factor; a unit that goes adds ``tr(F W_u^T ((G^-1)_uu)^-1 W_u)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateurs.criteria._elimination import Reader, losses
from secateurs.types import Gram, Need, Rows, check_damping


@dataclass(frozen=True)
class Kfac:
    """What each unit costs the loss when the units go one after the other, the others making up for it.

    As ``obs``, with outputs weighed by the gradients of the loss, so that layers are compared by what it makes of them.

    Args:
        damping: What is added to the diagonal of the second moments, as a fraction of its mean; above 0.

    Raises:
        SecateursError: The damping is out of range, or no weight reads the units.
    """

    damping: float = 0.01

    needs: ClassVar[frozenset[Need]] = frozenset({"weight", "gram", "gradient_gram"})

    def __post_init__(self) -> None:
        """Check the damping."""
        check_damping("kfac", self.damping)

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        readers = [self._reader(r.weight, r.gram, r.gradient_gram) for r in rows if r.gram and r.gradient_gram]
        return losses("kfac", readers).to(rows[0].weight.device)

    def _reader(self, weight: Tensor, gram: Gram, errors: Gram) -> Reader:
        """The weight times a root of what its outputs are weighed by."""
        flat = weight.reshape(len(gram.matrix), -1).float()
        return Reader(flat @ errors.once(self, _root), gram, len(weight), self.damping)


def _root(matrix: Tensor) -> Tensor:
    """``R`` with ``R R^T`` the matrix, which may be singular."""
    values, vectors = torch.linalg.eigh(matrix.to(torch.float32 if matrix.device.type == "mps" else torch.float64))
    root: Tensor = vectors * values.clamp_min(0).sqrt()
    return root.float()
