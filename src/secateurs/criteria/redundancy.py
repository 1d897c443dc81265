"""Units that are like others: clustered, and one of each cluster stays (Lee et al. 2024, STUN, arXiv:2409.06211)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from secateurs.types import Need, Rows

PART = 1 << 20
"""So many columns are compared at a time."""


@dataclass(frozen=True)
class Redundancy:
    """How far a unit is from what stands for it: the height at which agglomerative clustering absorbs it.

    The two clusters that are nearest become one, again and again. Each has one unit that stands for it; of the two that
    meet, the one that is farther from the units of the new cluster (of two alike, from all units) goes, and its score
    is the distance of the clusters.
    So at any number that stays, each cluster keeps one. The distance of two units is the mean, over the tensors that
    they run over, of the squared distance of their rows, as a fraction of the mean squared norm of a row; rows of
    different directions are then about equally far from each other, and it is the alike that count, such as experts
    whose router rows agree. A unit of zeros scores 0, the one that stands for all the most.

    Args:
        linkage: The distance of two clusters: the ``average`` or the largest (``complete``) of two of their units.
    """

    linkage: Literal["average", "complete"] = "average"

    needs: ClassVar[frozenset[Need]] = frozenset({"weight"})

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        alive = torch.stack([r.weight.any(dim=1) for r in rows]).any(dim=0).nonzero().flatten()
        scores = torch.zeros(len(rows[0].weight), dtype=torch.float64)
        scores[alive.cpu()] = self._heights(_distances([r.weight[alive] for r in rows]))
        return scores.to(rows[0].weight.device)

    def _heights(self, distances: Tensor) -> Tensor:
        """At which each unit is absorbed: ``(n,)``, from ``(n, n)`` distances."""
        from scipy.cluster.hierarchy import linkage
        from scipy.spatial.distance import squareform

        heights = torch.full((len(distances),), torch.inf, dtype=torch.float64)
        clusters = [([i], i) for i in range(len(distances))]  # the units of each, and which of them stands for it
        if len(distances) > 1:
            for a, b, height, _ in linkage(squareform(distances.numpy(), checks=False), self.linkage):
                units = clusters[int(a)][0] + clusters[int(b)][0]
                pair = clusters[int(a)][1], clusters[int(b)][1]
                far = [(float(distances[i, units].sum()), float(distances[i].sum())) for i in pair]
                stays, goes = pair if far[0] <= far[1] else pair[::-1]
                heights[goes] = height
                clusters.append((units, stays))
        most = heights[heights.isfinite()].max(dim=0).values if len(heights) > 1 else torch.tensor(0.0)
        return torch.where(heights.isfinite(), heights, 2 * most + 1)


def _distances(rows: Sequence[Tensor]) -> Tensor:
    """Of units to each other, ``(n, n)`` on the CPU; the mean over tensors, each in its own scale."""
    total = torch.zeros(len(rows[0]), len(rows[0]), dtype=torch.float64)
    for each in rows:
        apart, norm = torch.zeros_like(total), 0.0
        for part in (it.double() for it in torch.split(each, PART, dim=1)):
            apart += torch.cdist(part, part, compute_mode="donot_use_mm_for_euclid_dist").square().cpu()
            norm += float(part.square().sum()) / max(1, len(each))
        total += apart / (max(norm, torch.finfo(torch.float64).tiny) * len(rows))
    return total
