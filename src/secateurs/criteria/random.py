"""Chance: the baseline that every criterion must beat (Mittal et al. 2018)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateurs.types import Need, Rows


@dataclass(frozen=True)
class Random:
    """Uniform scores in (0, 1]; a unit whose weights are all zero scores 0, so what is gone stays gone.

    The draw depends on the seed and on the weights of the group, so that groups of equal size do not lose the same
    positions, and the same network with the same seed always gives the same scores.

    Args:
        seed: Of the draw.
    """

    seed: int = 0

    needs: ClassVar[frozenset[Need]] = frozenset({"weight"})

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        weight = rows[0].weight
        content = weight.detach().cpu().contiguous().view(torch.uint8).numpy().data
        # 32 bits, as the generator takes no more.
        generator = torch.Generator().manual_seed(zlib.crc32(content, zlib.crc32(str(self.seed).encode())))
        drawn = 1 - torch.rand(len(weight), generator=generator)
        alive = torch.stack([(r.weight != 0).any(dim=1) for r in rows]).any(dim=0)
        return drawn.to(weight.device) * alive
