"""Groups of the dims of one role: what channels, neurons and heads have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from math import prod

from secateurs.types import Dim, Group, Network


def free_dims(network: Network, role: str, keep: Iterable[str]) -> Iterator[Dim]:
    """The dims of a role from which something can go: not frozen, not kept, more than one position.

    Args:
        network: Where to look.
        role: E.g. ``channels``.
        keep: Glob patterns of names that are not touched.
    """
    for dim in network.dims.values():
        if dim.role == role and dim.frozen is None and dim.size > 1 and not matches(dim.name, keep):
            yield dim


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name matches one of these glob patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def group_over(network: Network, *dims: str) -> Group:
    """The group over the product of these dims (outermost first): units compete along the last, inside the others.

    It is called by the last dim.
    """
    sizes = [network.dims[dim].size for dim in dims]
    return Group(dims[-1], prod(sizes), network.members(*dims), sizes[-1], dims)
