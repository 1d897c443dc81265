"""What the entries that stay become: least squares on a given support, all rows at once.

Minimises ``tr((W - W') H (W - W')^T)`` over the entries kept by conjugate gradients, preconditioned by the diagonal of
H. Each row is a problem of its own with steps of its own; only the products with H are shared (Meng et al. 2024).
"""

from __future__ import annotations

import torch
from torch import Tensor

_AT_ONCE = 1 << 24
"""Entries of a weight worked on together, so that the few copies that it takes stay small."""


def refine(weight: Tensor, matrix: Tensor, start: Tensor, keep: Tensor, iterations: int) -> Tensor:
    """Improve what is kept; no row comes out worse than it went in.

    Args:
        weight: ``(o, i)``, what it should come to.
        matrix: ``(i, i)``, H, positive definite.
        start: ``(o, i)``, zero where not kept.
        keep: ``(o, i)`` bool.
        iterations: At most.

    Returns:
        ``(o, i)``, zero where not kept.
    """
    rows = max(1, _AT_ONCE // weight.shape[1])
    pieces = [
        _refined(weight[at : at + rows], matrix, start[at : at + rows], keep[at : at + rows], iterations)
        for at in range(0, len(weight), rows)
    ]
    return torch.cat(pieces)


def _refined(weight: Tensor, matrix: Tensor, start: Tensor, keep: Tensor, iterations: int) -> Tensor:
    kept = keep.to(weight.dtype)
    values = start.clone()
    scale = matrix.diagonal().reciprocal()
    residual = ((weight - start) @ matrix).mul_(kept)
    step = residual * scale
    fall = (residual * step).sum(dim=1, keepdim=True)
    enough = 1e-8 * fall.clamp(min=torch.finfo(fall.dtype).tiny)
    for _ in range(iterations):
        bend = (step @ matrix).mul_(kept)
        length = fall / (step * bend).sum(dim=1, keepdim=True).clamp(min=torch.finfo(fall.dtype).tiny)
        length = torch.where(fall > enough, length, 0.0)
        if not bool(length.any()):
            break
        values.addcmul_(length, step)
        residual.addcmul_(length, bend, value=-1)
        bend = torch.mul(residual, scale, out=bend)
        before, fall = fall, (residual * bend).sum(dim=1, keepdim=True)
        step.mul_(fall / before.clamp(min=torch.finfo(fall.dtype).tiny)).add_(bend)
    return values
