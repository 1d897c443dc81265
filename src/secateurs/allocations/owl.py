"""Outlier-weighed layers: those with more outliers among their scores lose less (Yin et al. 2024)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from secateurs.allocations._shares import counts
from secateurs.types import Counts, Group, Price, Scores, SecateursError


@dataclass(frozen=True)
class Owl:
    """The outlier ratio of a layer is the fraction of its scores above ``outlier`` times their mean.

    The fraction removed falls linearly with it, ``2 spread`` lie between the layer with the fewest outliers and that
    with the most, and the mean over what all units cost is the sparsity asked for. A layer is a block of the network:
    all groups below the same numbered module, ``layers.3`` of ``layers.3.mlp.up.weight``; a group below none is a layer
    of its own, and groups alike are one.

    Args:
        outlier: How many times the mean an outlier scores; the paper takes 5 or 7. Above 0.
        spread: Half of the range of sparsities, in [0, 0.5]; the paper's lambda.

    Raises:
        SecateursError: A field or the sparsity is outside its range, or a block would be left without a unit.
    """

    outlier: float = 5.0
    spread: float = 0.08

    currency: ClassVar[str] = "units"

    def __post_init__(self) -> None:
        """Check the fields."""
        if not 0 < self.outlier < float("inf"):
            raise SecateursError(f"owl: outlier must be above 0, got {self.outlier}")
        if not 0 <= self.spread <= 0.5:
            raise SecateursError(f"owl: spread must be in [0, 0.5], got {self.spread}")

    def __call__(self, groups: Sequence[Group], scores: Scores, sparsity: float, price: Price) -> Counts:
        layers: dict[str, list[Group]] = {}
        for group in groups:
            layers.setdefault(_layer(group), []).append(group)
        ratios = {layer: self._outliers(of, scores) for layer, of in layers.items()}
        least, most = min(ratios.values(), default=0.0), max(ratios.values(), default=0.0)
        scale = 2 * self.spread / (most - least) if most > least else 0.0
        less = {group.name: scale * (ratios[layer] - least) for layer, of in layers.items() for group in of}
        return counts("owl", groups, sparsity, price, lambda group, level: 2 * level - less[group.name])

    def _outliers(self, groups: Sequence[Group], scores: Scores) -> float:
        """The outlier ratio of a layer; what is gone already, or protected, does not count."""
        found = [score[score.isfinite()].float() for score in (scores[group.name] for group in groups)]
        number = sum(score.numel() for score in found)
        if not number:
            return 0.0
        bound = self.outlier * sum(float(score.double().sum()) for score in found) / number
        return sum(int((score > bound).sum()) for score in found) / number


def _layer(group: Group) -> str:
    """What a group has in common with the others of its layer."""
    if group.alike:
        return group.kind
    numbered = re.match(r"(.*?\.|)\d+(?=\.|$)", group.name)
    return numbered.group() if numbered else group.name
