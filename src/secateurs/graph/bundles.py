"""Groups that are tried as one, as they keep the same share of their units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import gcd

from secateurs.graph.network import Graph, ancestry
from secateurs.types import Group

Bundle = tuple[Group, ...]
"""Groups that keep the same share of their units, or one group by itself."""


def bundles(groups: Iterable[Group]) -> list[Bundle]:
    """Groups alike in one bundle each, the others by themselves."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.kind, []).append(group)
    return [tuple(some) for some in found.values()]


def paired(groups: Sequence[Group], network: Graph) -> list[Group]:
    """Groups by themselves made alike, where Python may say their sizes with one number.

    That is where they are of one role, and one lies in the module that holds the other: the dims inside heads that
    queries and keys share, and those of values. Where rotary embeddings let pairs of the former go, two of the latter
    go for each.
    """
    found: list[list[Group]] = []
    for group in groups:
        if group.dims and not group.alike:
            near = [some for some in found if any(_may_share(it, group, network) for it in some)]
            found = [some for some in found if not any(some is it for it in near)]
            found.append([*(it for some in near for it in some), group])
    return [it for some in found if len(some) > 1 for it in _alike(some)]


def _alike(some: Sequence[Group]) -> Iterator[Group]:
    """They lose as many multiples of each block; multiples of their own are kept where their blocks are the same."""
    steps = gcd(*(group.block // group.multiple for group in some))
    same = len({(group.block, group.multiple) for group in some}) == 1
    for group in some if steps > 1 else ():
        multiple = group.multiple if same else group.block // steps
        yield replace(group, alike=f"with {some[0].name}", multiple=multiple)


def _may_share(one: Group, other: Group, network: Graph) -> bool:
    kinds = [(network.dims[it.dims[-1]].role, it.least) for it in (one, other)]
    here, there = (_module(it) for it in (one, other))
    near = here in {"", *ancestry(there)} or there in {"", *ancestry(here)}
    return kinds[0] == kinds[1] and near and _proportionate(one, other)


def _proportionate(one: Group, other: Group) -> bool:
    """Whether the blocks of one are those of the other, or so many times as large."""
    small, large = sorted((it.block, it.multiple) for it in (one, other))
    return small == large or not (large[0] % small[0] or small[0] % small[1] or large[0] % large[1])


def _module(group: Group) -> str:
    """The innermost module that holds all of its tensors."""
    first, *others = ([*ancestry(member.tensor)][1:] for member in group.members)
    return next((path for path in first if all(path in it for it in others)), "")
