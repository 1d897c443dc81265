"""Small weights matter little: L1 or L2 norm (Han et al. 2015 for weights, Li et al. 2017 for filters)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from secateurs.types import Need, Rows

PART = 65536
"""So many numbers are squared at a time, in memory that is at hand."""


@dataclass(frozen=True)
class Magnitude:
    """Norm of all elements of a unit, in all of its members: ``(sum |w|^p)^(1/p)``.

    Nothing is divided by the number of elements: a unit with more weights weighs more. Where layers of different sizes
    are ranked together, the allocation normalises.

    Args:
        p: 1 for the sum of absolute values, 2 for the Euclidean norm.
    """

    p: Literal[1, 2] = 2

    needs: ClassVar[frozenset[Need]] = frozenset({"weight"})

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        norms = torch.stack([self._norms(r.weight.float()) for r in rows])
        total: Tensor = torch.linalg.vector_norm(norms, ord=self.p, dim=0)
        return total

    def _norms(self, rows: Tensor) -> Tensor:
        if rows.stride(1) == 1:
            norms: Tensor = torch.linalg.vector_norm(rows, ord=self.p, dim=1)
            return norms
        parts = torch.split(rows, max(1, PART // max(1, len(rows))), dim=1)  # torch's norm of columns is slow
        total = torch.stack([(part.abs() if self.p == 1 else part.square()).sum(1) for part in parts]).sum(0)
        return total if self.p == 1 else total.sqrt()
