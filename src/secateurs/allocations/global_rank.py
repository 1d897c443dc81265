"""One ranking over the whole network: the units that are worth least for what they cost go first.

The greedy rule for a knapsack (Dantzig 1957), with which Han et al. (2015) and Molchanov et al. (2019) rank weights and
channels across layers; Molchanov et al. (2017) divide by the layer's L2 norm first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from secateurs.types import Counts, Group, Scores, SecateursError


@dataclass(frozen=True)
class GlobalRank:
    """Rank all units of all groups by score per cost, and remove from the bottom until the sparsity is reached.

    What is ranked are slices: the c-th worst unit of every block of a group, together, since all blocks must keep the
    same number. A slice scores and costs the sum over its blocks. Removed is the shortest run of slices whose cost
    reaches ``sparsity`` times the cost of all units of all groups: never less, and more by under one slice. Equal
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

    def __call__(self, groups: Sequence[Group], scores: Scores, sparsity: float, costs: Mapping[str, float]) -> Counts:
        if not 0 <= sparsity < 1:
            raise SecateursError(f"global_rank: sparsity must be in [0, 1), got {sparsity}")
        total = sum(g.n_units * costs[g.name] for g in groups)
        if not groups or not total > 0:
            raise SecateursError(f"global_rank: no unit costs any {self.currency}; choose another currency")
        removed = np.zeros(len(groups), dtype=np.int64)
        if sparsity > 0:
            owner, spent = self._ranked(groups, scores, costs)
            # The tolerance keeps a sum of floats a hair under the target from costing one slice more.
            target = sparsity * total * (1 - 1e-9)
            if not len(spent) or spent[-1] < target:
                most = spent[-1] / total if len(spent) else 0.0
                raise SecateursError(
                    f"global_rank: sparsity {sparsity:g} of {self.currency} is out of reach, as floor {self.floor:g} "
                    f"and one unit of every block stay: at most {most:.4f}; lower the sparsity or the floor"
                )
            removed = np.bincount(owner[: 1 + np.searchsorted(spent, target)], minlength=len(groups))
        return {g.name: g.block - int(k) for g, k in zip(groups, removed, strict=True)}

    def _ranked(
        self, groups: Sequence[Group], scores: Scores, costs: Mapping[str, float]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """All removable slices, worst first: the group each belongs to, and the cost of all up to it."""
        slices = [self._slices(group, scores[group.name]) for group in groups]
        prices = np.array([g.n_blocks * costs[g.name] for g in groups], dtype=np.float64)
        # What costs nothing gains nothing by going: it is ranked last.
        worth = [s / p if p > 0 else np.full_like(s, np.inf) for s, p in zip(slices, prices, strict=True)]
        owner = np.repeat(np.arange(len(groups), dtype=np.int32), [len(s) for s in slices])
        # Each group is sorted already, so the stable sort only merges.
        owner = owner[np.argsort(np.concatenate(worth), kind="stable")]
        return owner, prices[owner].cumsum()

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
