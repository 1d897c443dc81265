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

from secateurs.types import Counts, Group, Price, Scores, SecateursError


@dataclass(frozen=True)
class GlobalRank:
    """Rank all units of all groups by score per cost, and remove from the bottom until the sparsity is reached.

    What is ranked are slices: the c-th worst unit of every block of a group, together, since all blocks must keep the
    same number. A slice scores and costs the sum over its blocks. Removed is the shortest run of slices after which the
    price of what is left has fallen by ``sparsity``: never less, and more by under one slice. Equal
    slices go in the order of the groups. At least one unit of every block stays.

    Args:
        currency: What a unit costs, and what the sparsity is a fraction of.
        normalise: By what a group's scores are divided first: nothing, their mean, or their L2 norm. Infinite scores
            (of units that are gone, or protected) do not count in it.
        floor: Fraction of every block that stays at least, in [0, 1), so that no layer collapses.

    Raises:
        SecateursError: A field or the sparsity is outside its range, or floor and sparsity contradict each other.
    """

    currency: Literal["units", "parameters", "macs"] = "macs"
    normalise: Literal["none", "mean", "l2"] = "none"
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
        owner = self._ranked(groups, scores, price)

        def counts(n: int) -> dict[str, int]:
            removed = np.bincount(owner[:n], minlength=len(groups))
            return {g.name: g.block - int(k) for g, k in zip(groups, removed, strict=True)}

        # The tolerance keeps a sum of floats a hair above the target from costing one slice more.
        target = dense * (1 - sparsity * (1 - 1e-9))
        if price.of(counts(len(owner))) > target:
            most = 1 - price.of(counts(len(owner))) / dense
            raise SecateursError(
                f"global_rank: sparsity {sparsity:g} of {self.currency} is out of reach, as floor {self.floor:g} "
                f"and one unit of every block stay: at most {most:.4f}; lower the sparsity or the floor"
            )
        return counts(bisect_left(range(len(owner)), True, key=lambda n: price.of(counts(n)) <= target))

    def _ranked(self, groups: Sequence[Group], scores: Scores, price: Price) -> npt.NDArray[np.int32]:
        """All removable slices, worst first: the group that each belongs to."""
        slices = [self._slices(group, scores[group.name]) for group in groups]
        prices = [g.n_blocks * price.unit[g.name] for g in groups]
        # What costs nothing gains nothing by going: it is ranked last.
        worth = [s / p if p > 0 else np.full_like(s, np.inf) for s, p in zip(slices, prices, strict=True)]
        owner = np.repeat(np.arange(len(groups), dtype=np.int32), [len(s) for s in slices])
        # Each group is sorted already, so the stable sort only merges.
        ranked: npt.NDArray[np.int32] = owner[np.argsort(np.concatenate(worth), kind="stable")]
        return ranked

    def _slices(self, group: Group, score: Tensor) -> npt.NDArray[np.float64]:
        """Scores of the slices of a group that may go, worst first."""
        stay = max(1, math.ceil(self.floor * group.block - 1e-9 * group.block))
        values: npt.NDArray[np.float64] = score.detach().cpu().double().numpy()
        if self.normalise != "none":
            finite = values[np.isfinite(values)]  # what is gone already scores minus infinity
            size = finite.sum() / max(1, len(finite)) if self.normalise == "mean" else np.linalg.norm(finite)
            values = values / size if size > 0 else values
        blocks = np.sort(values.reshape(group.n_blocks, group.block), axis=1)
        return np.asarray(blocks.sum(axis=0)[: group.block - stay])
