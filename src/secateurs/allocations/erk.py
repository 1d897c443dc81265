"""Erdős-Rényi-kernel: a layer keeps more the fewer weights it has for its sizes (Mocanu et al. 2018; Evci et al. 2020).

The fraction kept is proportional to ``(n_in + n_out + k_w + k_h) / (n_in n_out k_w k_h)``, and at most 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from secateurs.allocations._shares import counts
from secateurs.types import Counts, Group, Price, Scores


@dataclass(frozen=True)
class Erk:
    """The densities of the layers are as the sum of their sizes to the product, and cost what is asked for together.

    Groups alike have the same one, of their sizes together. Where units are no single weights, the sizes of a group are
    its number of blocks and that of units in one. The scores are not looked at.

    Raises:
        SecateursError: The sparsity is outside [0, 1), or a block would be left without a unit.
    """

    currency: ClassVar[str] = "units"

    def __call__(self, groups: Sequence[Group], scores: Scores, sparsity: float, price: Price) -> Counts:
        kinds: dict[str, list[Group]] = {}
        for group in groups:
            kinds.setdefault(group.kind, []).append(group)
        sizes = {name: [group.grid or (group.n_blocks, group.block) for group in kind] for name, kind in kinds.items()}
        raw = {
            group.name: sum(map(sum, sizes[name])) / sum(map(prod, sizes[name]))
            for name, kind in kinds.items()
            for group in kind
        }
        least = min(raw.values(), default=1.0)
        return counts("erk", groups, sparsity, price, lambda group, level: 1 - (1 - level) * raw[group.name] / least)
