"""Dynamic sparse, no training: the support is mended by swaps, and no value changes (Zhang et al. 2024).

With d the entries dropped (else 0) and ``e = d G``, growing j costs ``-2 w_j e_j + w_j^2 G_jj`` and dropping k then
costs ``2 w_k (e_k - w_j G_jk) + w_k^2 G_kk``; a swap is made while the sum is below zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secateurs.solvers._support import support
from secateurs.types import Gram, SecateursError


@dataclass(frozen=True)
class Dsnot:
    """Start from the best-scored entries; in every row swap one kept entry for a dropped one while that loses less.

    The paper weighs a swap by means and variances of the inputs. The second moments, being at hand, give what it
    changes exactly. Where entries compete in the whole layer, swaps stay inside rows too; for N:M, inside the M.

    Args:
        cycles: Swaps of a row, at most; at least 1.

    Raises:
        SecateursError: Fewer than one cycle.
    """

    cycles: int = 50

    def __post_init__(self) -> None:
        """Check the cycles."""
        if self.cycles < 1:
            raise SecateursError(f"dsnot: cycles must be at least 1, got {self.cycles}")

    def __call__(self, weight: Tensor, gram: Gram, scores: Tensor, block: int, kept: int) -> tuple[Tensor, Tensor]:
        weight, matrix, gone = weight.detach().float(), gram.matrix.float(), scores == -torch.inf
        keep = support(scores, block, kept)
        energy = weight.square() * matrix.diagonal()
        errors = weight.masked_fill(keep, 0.0) @ matrix
        barred = gone.clone()  # what cannot be grown: it is gone, or no swap with it is worth making
        for _ in range(self.cycles):
            grown, grow_cost = _least(energy - 2 * weight * errors, keep | barred)
            after = errors - weight.gather(1, grown) * matrix[grown[:, 0]]
            apart = torch.zeros_like(keep)
            if block < weight.shape[1]:
                apart = torch.arange(weight.shape[1], device=weight.device) // block != grown // block
            dropped, drop_cost = _least(energy + 2 * weight * after, ~keep | gone | apart)
            won = grow_cost + drop_cost < 0
            if not bool(grow_cost.isfinite().any()):
                break
            barred.scatter_(1, grown, ~won | barred.gather(1, grown))
            keep.scatter_(1, grown, won | keep.gather(1, grown)).scatter_(1, dropped, ~won & keep.gather(1, dropped))
            errors = torch.where(won, after + weight.gather(1, dropped) * matrix[dropped[:, 0]], errors)
        return keep, weight * (keep & ~gone)


def _least(cost: Tensor, barred: Tensor) -> tuple[Tensor, Tensor]:
    """Position and cost of the cheapest entry of each row that is not barred: two of ``(o, 1)``."""
    least = cost.masked_fill(barred, torch.inf).min(dim=1, keepdim=True)
    return least.indices, least.values
