"""Two networks side by side: the readings of both, and what the second costs of the first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from secateurs.types import Reading


@dataclass(frozen=True, slots=True)
class Comparison:
    """The readings of a dense network and of a pruned one, by measure, and their ratios.

    Args:
        dense: Measure -> reading of the network as given.
        pruned: Measure -> reading of the pruned network.
        paired: Measure -> pruned over dense, where the ratio was measured as such and carries an interval of its own.
        notes: Lines a reader must know, e.g. that a measure is missing and why.
    """

    dense: Mapping[str, Reading]
    pruned: Mapping[str, Reading]
    paired: Mapping[str, Reading] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def ratio(self, measure: str) -> float | None:
        """Pruned over dense; None where either is missing, not finite, or the dense one is zero.

        Args:
            measure: Name of the measure.
        """
        if measure in self.paired:
            return self.paired[measure].value
        if measure not in self.dense or measure not in self.pruned:
            return None
        dense, pruned = self.dense[measure].value, self.pruned[measure].value
        return pruned / dense if dense and math.isfinite(dense) and math.isfinite(pruned) else None
