"""Which entries stay: the best of every block, exactly so many, of equal ones the first."""

from __future__ import annotations

import torch
from torch import Tensor


def best(scores: Tensor, kept: int | Tensor) -> Tensor:
    """True for the ``kept`` highest of every row.

    Args:
        scores: ``(n, b)``; infinite ones are fine.
        kept: 0 to b; or ``(n, 1)``, one for each row.

    Returns:
        ``(n, b)`` bool.
    """
    if isinstance(kept, Tensor):
        rank = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return rank < kept
    if kept in (0, scores.shape[1]):
        return torch.full_like(scores, kept > 0, dtype=torch.bool)
    if kept == 2 and scores.shape[1] == 4:
        return _two_of_four(scores)
    worst = scores.kthvalue(scores.shape[1] - kept + 1, dim=1, keepdim=True).values
    above, level = scores > worst, scores == worst
    room = kept - above.sum(dim=1, keepdim=True)
    if torch.equal(level.sum(dim=1, keepdim=True), room):
        return above.logical_or_(level)
    return above.logical_or_(level.logical_and_(level.cumsum(dim=1) <= room))


def support(scores: Tensor, block: int, kept: int) -> Tensor:
    """True for the ``kept`` highest of every ``block`` consecutive entries of a matrix, row by row; its shape."""
    return best(scores.reshape(-1, block), kept).reshape(scores.shape)


def _two_of_four(scores: Tensor) -> Tensor:
    """The same by six comparisons: an entry stays if fewer than two beat it."""
    a, b, c, d = scores.unbind(dim=1)
    ab, ac, ad, bc, bd, cd = (x >= y for x, y in ((a, b), (a, c), (a, d), (b, c), (b, d), (c, d)))
    wins = [
        (ab, ac, ad),
        (~ab, bc, bd),
        (~ac, ~bc, cd),
        (~ad, ~bd, ~cd),
    ]
    return torch.stack([(x & y) | (x & z) | (y & z) for x, y, z in wins], dim=1)
