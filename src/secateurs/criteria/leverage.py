"""Ridge leverage of what a unit hands on: ``(C (C + r I)^-1)_uu`` (Lin et al. 2024, MoDeGPT, arXiv:2408.09632).

``C`` are the second moments of the inputs of a weight that reads the units, ``r`` the ridge. Where no weight reads
them, but queries and keys meet in them, it is ``|q_u| |k_u|``, as in the same paper: of a product those columns and
rows are kept whose norms have the largest products (Drineas et al. 2006, CR).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateurs.types import Need, Rows, SecateursError


@dataclass(frozen=True)
class Leverage:
    """How much of a unit cannot be told from the others: 1 where it is like no other, less where others share in it.

    Those that stay span what all of them hand on nearly as well as can be (Nystroem); with the recovery ``reconstruct``
    the weights that read them are solved anew, which is the paper's compression of feed-forward layers. The scores of
    the inputs of a unit are added, and those of several weights that read it. A unit by which nothing is multiplied but
    zero has none.

    Units that no weight reads, as dims of queries and keys, over which products of two activations are summed, are
    worth the product of the norms of the two, summed over the products (heads, layers) that share them. That is in
    another measure, which ``uniform`` does not mind.

    Args:
        ridge: What is added to the diagonal, as a fraction of its mean; above 0.

    Raises:
        SecateursError: The ridge is out of range, or no weight reads the units, nor do they meet in a product.
    """

    ridge: float = 1.0

    needs: ClassVar[frozenset[Need]] = frozenset({"weight", "gram", "product_norm"})

    def __post_init__(self) -> None:
        """Check the ridge."""
        if not 0 < self.ridge < float("inf"):
            raise SecateursError(f"leverage: ridge must be above 0, got {self.ridge}")

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        read = [(r.weight, r.gram) for r in rows if r.gram is not None]
        if not read and rows[0].product_norm is not None:
            return rows[0].product_norm[:, 0]
        if not read:
            raise SecateursError("leverage: no weight of the group reads its units as the inputs of a matrix; drop it")
        of_units = [gram.leverage(self.ridge).view(len(weight), -1).sum(dim=1) for weight, gram in read]
        return torch.stack([each * weight.any(dim=1) for each, (weight, _) in zip(of_units, read, strict=True)]).sum(0)
