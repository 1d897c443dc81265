"""Neurons: hidden units of fully connected layers, the feed-forward widths of transformers among them."""

from __future__ import annotations

from dataclasses import dataclass

from secateurs.structures._dims import free_dims, group_over
from secateurs.types import Group, Network


@dataclass(frozen=True)
class Neuron:
    """One group for each free dim of neurons; a gated layer's two halves share one dim.

    The neurons of several experts held in one tensor compete inside their expert, and each expert loses the same
    number.

    Args:
        keep: Glob patterns of dim names that are not touched.
    """

    keep: tuple[str, ...] = ()

    def __call__(self, network: Network) -> tuple[Group, ...]:
        found = []
        for dim in free_dims(network, "neurons", self.keep):
            outer = network.enclosing(dim.name)
            found.append(group_over(network, *([outer] if outer else []), dim.name))
        return tuple(found)
