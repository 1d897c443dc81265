"""The same share of every layer: a block of b units loses ``ceil(S b)``, and more where multiples are to be kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NoReturn

from secateurs.allocations._shares import least
from secateurs.types import Counts, Group, Price, ReachError, Scores, SecateursError, rounded_down


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
        found = {group.name: _kept(group, sparsity) for group in groups}
        if any(found[group.name] < min(group.block, least(group)) for group in groups):
            _refuse(min(groups, key=_most), sparsity)
        return found


def _kept(group: Group, sparsity: float) -> int:
    # 0.3 * 10 is a little more than 3 in floating point; it must not cost a fourth unit.
    gone = math.ceil(sparsity * group.block - 1e-9 * group.block)
    return (group.block - gone) // group.multiple * group.multiple if gone else group.block


def _most(group: Group) -> float:
    """The largest fraction of a group that may go."""
    return max(0.0, 1 - least(group) / group.block)


def _refuse(group: Group, sparsity: float) -> NoReturn:
    """Name the group that bears the least."""
    kept = _kept(group, sparsity)
    left = f"{kept}, and {group.least} are picked at a time, " if kept else "none "
    raise ReachError(
        f"uniform: sparsity {sparsity:g} leaves {left}of the {group.block} units of a block of {group.name}; "
        f"ask for at most {rounded_down(_most(group)):g}, or keep it out of the structure",
        _most(group),
    )
