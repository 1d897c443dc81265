"""Whole experts of a mixture (Shazeer et al. 2017): their weights, and the rows of the router that choose them."""

from __future__ import annotations

from dataclasses import dataclass

from secateurs.structures._constraints import Constraints
from secateurs.structures._dims import free_dims, groups_inside
from secateurs.types import Group, Network, few


@dataclass(frozen=True)
class Expert(Constraints):
    """One group for each mixture: its experts, of which the router picks by rank among those that stay.

    As many stay at least as are picked for one position. Fields: those of ``Constraints``.
    """

    def __call__(self, network: Network) -> tuple[Group, ...]:
        return self.constrained(groups_inside(network, free_dims(network, "experts", self.keep, flagged=True)))

    def why_none(self, network: Network) -> str:
        """Mixtures of which every expert is picked for every position."""
        whole = {d.carriers[0]: d.size for d in network.dims.values() if d.frozen and 1 < d.size <= d.least}
        if not whole:
            return ""
        picked = few([f"{name.rpartition('.')[0]} (top_k {size} of {size} experts)" for name, size in whole.items()])
        return f"{picked}: all are picked every time, and so none can go; lower top_k in the model's config first"
