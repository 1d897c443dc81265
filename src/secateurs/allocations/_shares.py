"""A share for every group, such that together they cost what is asked for; in whole units, no more than it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from secateurs.types import Counts, Group, Price, ReachError, SecateursError, few, rounded_down

Share = Callable[[Group, float], float]
"""Group, level in [0, 1] -> the fraction of it that goes: it rises with the level, from at most 0 to at least 1."""


def counts(name: str, groups: Sequence[Group], sparsity: float, price: Price, share: Share) -> Counts:
    """Find the least level at which the shares, from 0 to what each group bears, cost the sparsity; counts of it.

    Shares are rounded to the nearest whole units, or multiples where those are to be kept. What goes costs no less than
    is asked for, and more by under one unit, or multiple, of every block of one group and those alike: of groups that
    would lose one at the same level the first do, as many as it takes.

    Args:
        name: Of the allocation, for what is refused.
        groups: What can go; those alike must be given the same share.
        sparsity: Fraction of the price of all units together, each paid for by itself.
        price: What a unit costs.
        share: What goes at a level.

    Raises:
        SecateursError: The sparsity is outside [0, 1), or more than the groups bear.
    """
    if not 0 <= sparsity < 1:
        raise SecateursError(f"{name}: sparsity must be in [0, 1), got {sparsity}")
    cost = {group.name: price.unit[group.name] * group.n_blocks for group in groups}
    most = {group.name: 1 - least(group) / group.block for group in groups}
    dense = sum(cost[group.name] * group.block for group in groups)
    wanted = sparsity * dense * (1 - 1e-9)

    def kept(level: float) -> Counts:
        return {group.name: _kept(group, min(max(share(group, level), 0.0), most[group.name])) for group in groups}

    def paid(found: Counts) -> float:
        return sum(cost[group.name] * (group.block - found[group.name]) for group in groups)

    if paid(kept(1.0)) < wanted:
        bears = paid(kept(1.0)) / dense
        raise ReachError(
            f"{name}: sparsity {sparsity:g} leaves a block without units; ask for at most "
            f"{rounded_down(bears):g}{picked(groups)}",
            bears,
        )
    low, high = 0.0, 1.0
    for _ in range(60):
        level = (low + high) / 2
        low, high = (level, high) if paid(kept(level)) < wanted else (low, level)
    found, more = dict(kept(low)), kept(high)
    for kind in dict.fromkeys(group.kind for group in groups):
        if paid(found) >= wanted:
            break
        found |= {group.name: more[group.name] for group in groups if group.kind == kind}
    return found


def picked(groups: Sequence[Group]) -> str:
    """A clause on the groups of which an operator picks some at a time, for what is out of reach; empty where none."""
    said = [f"{g.name} keeps {g.least} of {g.block}" for g in groups if g.least > 1]
    return f"; {few(said)}, as so many are picked at a time" if said else ""


def least(group: Group) -> int:
    """The fewest units of a block that may stay."""
    return -(-group.least // group.multiple) * group.multiple


def _kept(group: Group, share: float) -> int:
    kept = math.floor((1 - share) * group.block / group.multiple + 0.5) * group.multiple
    return min(group.block, kept) if share > 0 else group.block
