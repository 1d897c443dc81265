"""Structured optimal brain surgeon: ``tr(W_u^T ((G^-1)_uu)^-1 W_u)`` (Hassibi & Stork 1993; Kurtic et al. 2023, ZipLM).

With ``G = E[x x^T]`` of the inputs of the weights that read the units, it is the least that ``||(W - W') x||^2`` grows
by when a unit's inputs go, and those of the others make up for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from secateurs.criteria._elimination import Reader, losses
from secateurs.types import Need, Rows, check_damping


@dataclass(frozen=True)
class Obs:
    """What each unit costs when the units go one after the other, always the cheapest, the others making up for it.

    The scores rise in the order of removal, so that what stays at any count is what backward elimination leaves. Where
    a later removal costs less than an earlier one, both are given their mean (isotonic regression): sums of scores are
    what is lost, and layers can be ranked together by them. Several weights that read a unit add up. The values that
    make up for it are found by the recovery ``reconstruct``; inputs that are no units of the group do not take part.

    Args:
        damping: What is added to the diagonal of the second moments, as a fraction of its mean; above 0.

    Raises:
        SecateursError: The damping is out of range, or no weight reads the units.
    """

    damping: float = 0.01

    needs: ClassVar[frozenset[Need]] = frozenset({"weight", "gram"})

    def __post_init__(self) -> None:
        """Check the damping."""
        check_damping("obs", self.damping)

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        readers = [
            Reader(r.weight.reshape(len(r.gram.matrix), -1), r.gram, len(r.weight), self.damping)
            for r in rows
            if r.gram is not None
        ]
        return losses("obs", readers).to(rows[0].weight.device)
