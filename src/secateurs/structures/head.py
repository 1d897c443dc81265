"""Attention heads (Michel et al. 2019); with grouped queries (Ainslie et al. 2023) whole groups, or queries in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from secateurs.structures._dims import free_dims, group_over
from secateurs.types import Group, Network


@dataclass(frozen=True)
class Head:
    """One group for each attention layer: its heads, with their queries, keys, values and output columns.

    Args:
        of: What goes where several query heads share a key-value head: the ``group``, that is a key-value head with all
            of its queries, or single ``query`` heads, the same number from each group.
        keep: Glob patterns of dim names that are not touched.
    """

    of: Literal["group", "query"] = "group"
    keep: tuple[str, ...] = ()

    def __call__(self, network: Network) -> tuple[Group, ...]:
        found = [group_over(network, dim.name) for dim in free_dims(network, "heads", self.keep)]
        if self.of == "group":
            found += [group_over(network, dim.name) for dim in free_dims(network, "kv_heads", self.keep)]
        else:
            for dim in free_dims(network, "query_group", self.keep):
                outer = network.enclosing(dim.name)
                found.append(group_over(network, *([outer] if outer else []), dim.name))
        return tuple(found)
