"""Channels of convolutions, and everything that carries them (Li et al. 2017; Fang et al. 2023 for the coupling)."""

from __future__ import annotations

from dataclasses import dataclass

from secateurs.structures._constraints import Constraints
from secateurs.structures._dims import free_dims, groups_inside
from secateurs.types import Group, Network


@dataclass(frozen=True)
class Channel(Constraints):
    """One group for each free dim of channels; all layers joined by additions share one dim, so they shrink together.

    The channels of a grouped convolution compete inside their convolution group, and each of these loses the same
    number. Fields: those of ``Constraints``.
    """

    def __call__(self, network: Network) -> tuple[Group, ...]:
        return self.constrained(groups_inside(network, free_dims(network, "channels", self.keep)))
