"""How much a block changes the stream: ``1 - E[cos(x_in, x_out)]`` (Men et al. 2024, ShortGPT, arXiv:2403.03853)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from secateurs.types import Need, Rows, SecateursError


@dataclass(frozen=True)
class BlockInfluence:
    """One minus the mean, over all positions, of the cosine between what a block is given and what it hands on.

    A block whose input and output point the same way adds next to nothing, and can be skipped. For the structure
    ``layer`` with ``of: block``.

    Raises:
        SecateursError: The units are no blocks.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"influence"})

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        influence = rows[0].influence
        if influence is None:
            raise SecateursError("block_influence: it is of blocks alone; use structure layer, or another criterion")
        return influence[:, 0].float()
