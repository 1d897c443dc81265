"""Groups that are tried as one, as they keep the same number of units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from secateurs.graph.network import Graph, ancestry
from secateurs.types import Group

Bundle = tuple[Group, ...]
"""Groups that keep the same number of units, or one group by itself."""


def bundles(groups: Iterable[Group]) -> list[Bundle]:
    """Groups alike in one bundle each, the others by themselves."""
    found: dict[tuple[str, int], list[Group]] = {}
    for group in groups:
        found.setdefault((f"alike {group.alike}", group.block) if group.alike else (group.name, 0), []).append(group)
    return [tuple(some) for some in found.values()]


def paired(groups: Sequence[Group], network: Graph) -> list[Group]:
    """Groups by themselves made alike, where Python may say their sizes with one number.

    That is where they are of one role and size, and one lies in the module that holds the other: the dims inside heads
    that queries and keys share, and those of values.
    """
    found: list[list[Group]] = []
    for group in groups:
        if group.dims and not group.alike:
            near = [some for some in found if any(_may_share(it, group, network) for it in some)]
            found = [some for some in found if not any(some is it for it in near)]
            found.append([*(it for some in near for it in some), group])
    return [replace(it, alike=f"with {some[0].name}") for some in found for it in some if len(some) > 1]


def _may_share(one: Group, other: Group, network: Graph) -> bool:
    kinds = [(network.dims[it.dims[-1]].role, it.block, it.multiple, it.least) for it in (one, other)]
    here, there = (_module(it) for it in (one, other))
    return kinds[0] == kinds[1] and (here in {"", *ancestry(there)} or there in {"", *ancestry(here)})


def _module(group: Group) -> str:
    """The innermost module that holds all of its tensors."""
    first, *others = ([*ancestry(member.tensor)][1:] for member in group.members)
    return next((path for path in first if all(path in it for it in others)), "")
