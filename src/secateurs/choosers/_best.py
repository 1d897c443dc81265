"""The units of each block that are worth most."""

from __future__ import annotations

import torch
from torch import Tensor


def best(worth: Tensor, count: int, block: int) -> Tensor:
    """True for the ``count`` highest of every block; of equal ones the first.

    Args:
        worth: ``(n_units,)``, on the CPU.
        count: Of every block.
        block: Units compete inside consecutive blocks of this many.
    """
    order = worth.view(-1, block).argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros(len(worth) // block, block, dtype=torch.bool).scatter_(1, order, True).flatten()
