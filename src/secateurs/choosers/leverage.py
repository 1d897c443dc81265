"""The units that hand on what the others do not: those of highest ridge leverage (Lin et al. 2024, arXiv:2408.09632).

It is ``(G (G + r I)^-1)_uu`` for the second moments ``G`` of the inputs of a weight that reads the units, and the ridge
``r``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateurs.choosers._best import best
from secateurs.types import Need, Rows, SecateursError


@dataclass(frozen=True)
class Leverage:
    """Keep the units from which what the others hand on can be had best, where what reads them is solved for anew.

    A criterion by the loss says how much of which layer goes as if nothing were mended, and that is the right question
    for it; which units of a layer go is another one where a recovery such as ``reconstruct`` mends: of several that are
    alike one is enough, however much the loss would lose with each. Leverages of the inputs of a unit are added, and
    those of several weights that read it. Where no matrix reads the units, the best-scored stay.

    Args:
        ridge: What is added to the diagonal, as a fraction of its mean; above 0.

    Raises:
        SecateursError: The ridge is out of range.
    """

    ridge: float = 1.0

    needs: ClassVar[frozenset[Need]] = frozenset({"weight", "gram"})

    def __post_init__(self) -> None:
        """Check the ridge."""
        if not 0 < self.ridge < float("inf"):
            raise SecateursError(f"leverage: ridge must be above 0, got {self.ridge}")

    def __call__(self, rows: Sequence[Rows], scores: Tensor, block: int, kept: int) -> Tensor:
        grams = [r.gram for r in rows if r.gram is not None]
        if not grams or kept == block:
            return best(scores, kept, block)
        of_units = [gram.leverage(self.ridge).view(len(scores), -1).sum(dim=1).cpu() for gram in grams]
        return best(torch.stack(of_units).sum(dim=0).where(scores > -torch.inf, -torch.inf), kept, block)
