"""Channels of convolutions, and everything that carries them (Li et al. 2017; Fang et al. 2023 for the coupling)."""

from __future__ import annotations

from dataclasses import dataclass

from secateurs.structures._dims import free_dims, group_over
from secateurs.types import Group, Network


@dataclass(frozen=True)
class Channel:
    """One group for each free dim of channels; all layers joined by additions share one dim, so they shrink together.

    The channels of a grouped convolution compete inside their convolution group, and each of these loses the same
    number.

    Args:
        keep: Glob patterns of dim names that are not touched.
    """

    keep: tuple[str, ...] = ()

    def __call__(self, network: Network) -> tuple[Group, ...]:
        found = []
        for dim in free_dims(network, "channels", self.keep):
            outer = network.enclosing(dim.name)
            found.append(group_over(network, *([outer] if outer else []), dim.name))
        return tuple(found)
