"""What structures have in common: the free dims of a role, the groups over dims, the weights that may be zeroed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from math import prod

from secateurs.types import Dim, Group, Network, Weight


def free_dims(network: Network, role: str, keep: Iterable[str], *, flagged: bool = False) -> Iterator[Dim]:
    """The dims of a role from which something can go: not frozen, not kept, more than one position.

    Args:
        network: Where to look.
        role: E.g. ``channels``.
        keep: Glob patterns of names that are not touched.
        flagged: Whether dims over which a statistic is taken are among them.
    """
    for dim in network.dims.values():
        whole = dim.frozen is not None or (dim.flagged is not None and not flagged) or dim.size == 1
        if dim.role == role and not whole and not matches(dim.name, keep):
            yield dim


def free_weights(network: Network, keep: Iterable[str], outputs: bool) -> Iterator[Weight]:
    """The weights that may be zeroed one by one; never a table that is also looked up, as a tied embedding is.

    Args:
        network: Where to look.
        keep: Glob patterns of tensor names that are not touched.
        outputs: Whether the last layers are among them: they make outputs of the model that no other layer reads.
    """
    barred = () if outputs else ("vocabulary", "output")
    read = {f"{weight.name}[{axis}]" for weight in network.weights for axis in weight.inputs}
    last = (dim for dim in network.dims.values() if dim.role in barred and read.isdisjoint(dim.carriers))
    held = {where for dim in last for where in dim.carriers}
    for weight in (weight for weight in network.weights if not weight.looked_up):
        if not matches(weight.name, keep) and not held & {f"{weight.name}[{axis}]" for axis in weight.outputs}:
            yield weight


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name matches one of these glob patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def group_over(network: Network, *dims: str) -> Group:
    """The group over the product of these dims (outermost first): units compete along the last, inside the others.

    It is called by the last dim.
    """
    sizes = [network.dims[dim].size for dim in dims]
    inner = network.dims[dims[-1]]
    members = network.members(*dims)
    met = network.meetings(*dims)
    return Group(dims[-1], prod(sizes), members, sizes[-1], dims, inner.multiple, least=inner.least, meetings=met)


def groups_inside(network: Network, dims: Iterable[Dim]) -> Iterator[Group]:
    """One group for each dim; where a dim always lies inside another, its units compete there."""
    for dim in dims:
        outer = network.enclosing(dim.name)
        yield group_over(network, *([outer] if outer else []), dim.name)
