"""Neurons: hidden units of fully connected layers, the feed-forward widths of transformers among them."""

from __future__ import annotations

from dataclasses import dataclass

from secateurs.structures._constraints import Constraints
from secateurs.structures._dims import free_dims, groups_inside
from secateurs.types import Group, Network


@dataclass(frozen=True)
class Neuron(Constraints):
    """One group for each free dim of neurons; a gated layer's two halves share one dim.

    The neurons of experts that lie side by side along an axis compete inside their expert, and each expert loses the
    same number; of experts stacked along an axis of their own, a unit is the neuron of one number in all.

    Fields: those of ``Constraints``.
    """

    def __call__(self, network: Network) -> tuple[Group, ...]:
        return self.constrained(groups_inside(network, free_dims(network, "neurons", self.keep)))
