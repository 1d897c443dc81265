"""Attention heads (Michel et al. 2019); of grouped queries (Ainslie et al. 2023) groups or queries; dims in heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from secateurs.structures._constraints import Constraints
from secateurs.structures._dims import free_dims, group_over, groups_inside
from secateurs.types import Group, Network


@dataclass(frozen=True)
class Head(Constraints):
    """One group for each attention layer: its heads, with their queries, keys, values and output columns.

    Where a statistic is taken over all heads together, as by a norm of queries, it is then of those that stay.

    Args:
        of: What goes where several query heads share a key-value head: the ``group``, that is a key-value head with all
            of its queries, or single ``query`` heads, the same number from each group. ``dim``: no head goes, but dims
            inside of heads, the same number from each: those of queries and keys, and those of values. ``value``: the
            latter alone, that is those which a weight reads.

    The other fields are those of ``Constraints``.
    """

    of: Literal["group", "query", "dim", "value"] = "group"

    def __call__(self, network: Network) -> tuple[Group, ...]:
        if self.of in ("dim", "value"):
            inside = groups_inside(network, free_dims(network, "head_dim", self.keep, flagged=True))
            return self.constrained(it for it in inside if self.of == "dim" or any(m.reads for m in it.members))
        found = [group_over(network, dim.name) for dim in free_dims(network, "heads", self.keep, flagged=True)]
        if self.of == "group":
            found += [group_over(network, dim.name) for dim in free_dims(network, "kv_heads", self.keep, flagged=True)]
        else:
            found += groups_inside(network, free_dims(network, "query_group", self.keep, flagged=True))
        return self.constrained(found)
