"""The same share of every layer: a block of b units loses ``ceil(S b)``, and more where multiples are to be kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from secateurs.types import Counts, Group, Price, Scores, SecateursError


@dataclass(frozen=True)
class Uniform:
    """Every block of every group loses the same fraction of its units, rounded up to whole units and kept multiples.

    Whatever a unit costs, each group loses at least the fraction asked for, so the whole does. Groups alike have blocks
    of as many multiples, so they keep the same share.

    Raises:
        SecateursError: The sparsity is outside [0, 1), or would leave a block without a unit, or with fewer than its
            group states.
    """

    currency: ClassVar[str] = "units"

    def __call__(self, groups: Sequence[Group], scores: Scores, sparsity: float, price: Price) -> Counts:
        if not 0 <= sparsity < 1:
            raise SecateursError(f"uniform: sparsity must be in [0, 1), got {sparsity}")
        return {group.name: self._kept(group, sparsity) for group in groups}

    def _kept(self, group: Group, sparsity: float) -> int:
        # 0.3 * 10 is a little more than 3 in floating point; it must not cost a fourth unit.
        gone = math.ceil(sparsity * group.block - 1e-9 * group.block)
        if not gone:
            return group.block
        kept = (group.block - gone) // group.multiple * group.multiple
        least = -(-group.least // group.multiple) * group.multiple
        if kept < least:
            left = f"{kept}, and {group.least} are picked at a time, " if kept else "none "
            raise SecateursError(
                f"uniform: sparsity {sparsity:g} leaves {left}of the {group.block} units of a block of "
                f"{group.name}; ask for at most {1 - least / group.block:g}, or keep it out of the structure"
            )
        return kept
