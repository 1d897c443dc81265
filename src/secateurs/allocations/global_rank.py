"""One ranking over the whole network: the units that are worth least for what they cost go first.

The greedy rule for a knapsack (Dantzig 1957), with which Han et al. (2015) and Molchanov et al. (2019) rank weights and
channels across layers; Molchanov et al. (2017) divide by the layer's L2 norm first.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from secateurs.allocations._shares import picked
from secateurs.types import Counts, Group, Price, ReachError, Scores, SecateursError, rounded_down


@dataclass(frozen=True)
class GlobalRank:
    """Rank all units of all groups by score per cost, and remove from the bottom until the sparsity is reached.

    What is ranked are slices: the c-th worst unit of every block of a group, and of the groups alike, together, since
    all of them must keep the same share; where multiples are to be kept, as many neighbouring ones as it takes to come
    to the next multiple. A slice scores and costs the sum over its units. Removed is the shortest run of slices after
    which the price of what is left has fallen by ``sparsity``: never less, and more by under one slice. Equal
    slices go in the order of the groups. At least one unit of every block, the multiple, or what its group
    states, stays.

    Args:
        currency: What a unit costs, and what the sparsity is a fraction of.
        normalise: By what a group's scores are divided first: nothing, their mean, or their L2 norm. ``standard``: they
            are worth their distance from their mean, in standard deviations, whatever a unit costs, as that is the same
            for a score and for a score per cost (An et al. 2024). Infinite scores (of units that are gone, or
            protected) do not count in it.
        floor: Fraction of every block that stays at least, in [0, 1), so that no layer collapses.

    Raises:
        SecateursError: A field or the sparsity is outside its range, or floor and sparsity contradict each other.
    """

    currency: Literal["units", "parameters", "macs"] = "macs"
    normalise: Literal["none", "mean", "l2", "standard"] = "none"
    floor: float = 0.05

    def __post_init__(self) -> None:
        """Check the floor."""
        if not 0 <= self.floor < 1:
            raise SecateursError(f"global_rank: floor must be in [0, 1), got {self.floor}")

    def __call__(self, groups: Sequence[Group], scores: Scores, sparsity: float, price: Price) -> Counts:
        if not 0 <= sparsity < 1:
            raise SecateursError(f"global_rank: sparsity must be in [0, 1), got {sparsity}")
        dense = price.of({g.name: g.block for g in groups}) if groups else 0.0
        if not dense > 0:
            raise SecateursError(f"global_rank: no unit costs any {self.currency}; choose another currency")
        kinds = list(_alike(groups).values())
        left = {g.name: np.append(g.block, g.block - self._sizes(g).cumsum()) for g in groups}
        owner = self._ranked(kinds, scores, price)

        def counts(n: int) -> dict[str, int]:
            removed = np.bincount(owner[:n], minlength=len(kinds))
            return {g.name: int(left[g.name][k]) for kind, k in zip(kinds, removed, strict=True) for g in kind}

        # The tolerance keeps a sum of floats a hair above the target from costing one slice more.
        target = dense * (1 - sparsity * (1 - 1e-9))
        if price.of(counts(len(owner))) > target:
            most = 1 - price.of(counts(len(owner))) / dense
            raise ReachError(
                f"global_rank: sparsity {sparsity:g} of {self.currency} is out of reach, as floor {self.floor:g} "
                f"and one unit, or multiple, of every block stay: at most {rounded_down(most):g}{picked(groups)}; "
                "lower the sparsity or the floor",
                most,
            )
        return counts(bisect_left(range(len(owner)), True, key=lambda n: price.of(counts(n)) <= target))

    def _ranked(self, kinds: Sequence[Sequence[Group]], scores: Scores, price: Price) -> npt.NDArray[np.int32]:
        """All slices that may go, worst first, as the kind of group that each belongs to."""
        worth = [self._worth(kind, scores, price) for kind in kinds]
        owner = np.repeat(np.arange(len(kinds), dtype=np.int32), [len(w) for w in worth])
        # Each kind is sorted already, so the stable sort only merges.
        return owner[np.argsort(np.concatenate(worth), kind="stable")]

    def _sizes(self, group: Group) -> npt.NDArray[np.int64]:
        """The units of a block in each slice that may go: the first as many as it takes to come to a multiple."""
        stay = max(group.least, math.ceil(self.floor * group.block - 1e-9 * group.block))
        kept = np.arange(group.block // group.multiple, 0, -1) * group.multiple
        gone = group.block - kept[kept >= stay]
        return np.diff(gone[gone > 0], prepend=0)

    def _worth(self, kind: Sequence[Group], scores: Scores, price: Price) -> npt.NDArray[np.float64]:
        """Score per cost of each slice of groups alike."""
        sizes = [self._sizes(group) for group in kind]
        units = [group.n_blocks * at for group, at in zip(kind, sizes, strict=True)]
        paid = sum(price.unit[group.name] * some for group, some in zip(kind, units, strict=True))
        if not np.all(paid > 0):  # what costs nothing gains nothing by going: it is ranked last
            return np.full(len(sizes[0]), np.inf)
        worth = sum(self._sums(group, scores[group.name], at) for group, at in zip(kind, sizes, strict=True))
        return np.asarray(worth / (sum(units) if self.normalise == "standard" else paid))

    def _sums(self, group: Group, score: Tensor, sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The sum of a group's scores in each slice."""
        total = self._sorted(group, score)[: sizes.sum()]
        return np.add.reduceat(total, np.cumsum(sizes) - sizes)

    def _sorted(self, group: Group, score: Tensor) -> npt.NDArray[np.float64]:
        """The sum over the blocks of a group of their worst, second worst, ... units' scores."""
        values: npt.NDArray[np.float64] = score.detach().cpu().double().numpy()
        if self.normalise != "none":
            finite = values[np.isfinite(values)]  # what is gone already scores minus infinity
            mean = finite.mean() if len(finite) else 0.0
            if self.normalise == "standard":
                values, size = values - mean, finite.std() if len(finite) else 0.0
            else:
                size = mean if self.normalise == "mean" else np.linalg.norm(finite)
            values = values / size if size > 0 else values
        return np.asarray(np.sort(values.reshape(group.n_blocks, group.block), axis=1).sum(axis=0))


def _alike(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """The groups that must keep the same share, by what they have in common; each by itself where it says nothing."""
    kinds: dict[str, list[Group]] = {}
    for group in groups:
        kinds.setdefault(group.kind, []).append(group)
    return kinds
