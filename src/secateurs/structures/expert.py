"""Whole experts of a mixture (Shazeer et al. 2017): their weights, and the rows of the router that choose them."""

from __future__ import annotations

from dataclasses import dataclass

from secateurs.structures._constraints import Constraints
from secateurs.structures._dims import free_dims, groups_inside
from secateurs.types import Group, Network


@dataclass(frozen=True)
class Expert(Constraints):
    """One group for each mixture: its experts, of which the router picks by rank among those that stay.

    As many stay at least as are picked for one position. Fields: those of ``Constraints``.
    """

    def __call__(self, network: Network) -> tuple[Group, ...]:
        return self.constrained(groups_inside(network, free_dims(network, "experts", self.keep, flagged=True)))
