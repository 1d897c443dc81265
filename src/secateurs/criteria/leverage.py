"""Ridge leverage of what a unit hands on: ``(C (C + r I)^-1)_uu`` (Lin et al. 2024, MoDeGPT, arXiv:2408.09632).

``C`` are the second moments of the inputs of a weight that reads the units, ``r`` the ridge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateurs.types import Gram, Need, Rows, SecateursError


@dataclass(frozen=True)
class Leverage:
    """How much of a unit cannot be told from the others: 1 where it is like no other, less where others share in it.

    Those that stay span what all of them hand on nearly as well as can be (Nystroem); with the recovery ``reconstruct``
    the weights that read them are solved anew, which is the paper's compression of feed-forward layers. The scores of
    the inputs of a unit are added, and those of several weights that read it. A unit by which nothing is multiplied but
    zero has none.

    Args:
        ridge: What is added to the diagonal, as a fraction of its mean; above 0.

    Raises:
        SecateursError: The ridge is out of range, or no weight reads the units.
    """

    ridge: float = 1.0

    needs: ClassVar[frozenset[Need]] = frozenset({"weight", "gram"})

    def __post_init__(self) -> None:
        """Check the ridge."""
        if not 0 < self.ridge < float("inf"):
            raise SecateursError(f"leverage: ridge must be above 0, got {self.ridge}")

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        read = [(r.weight, r.gram) for r in rows if r.gram is not None]
        if not read:
            raise SecateursError("leverage: no weight of the group reads its units as the inputs of a matrix; drop it")
        return torch.stack([self._of(gram, len(weight)) * weight.any(dim=1) for weight, gram in read]).sum(dim=0)

    def _of(self, gram: Gram, units: int) -> Tensor:
        """The diagonal, summed over the inputs of each unit: ``(n_units,)`` float32."""
        diagonal: Tensor = (gram.matrix * gram.inverse(self.ridge)).sum(dim=1)  # both are symmetric
        return diagonal.clamp_min(0).view(units, -1).sum(dim=1)
