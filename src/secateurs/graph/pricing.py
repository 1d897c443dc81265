"""What a network costs, in parameters or multiply-accumulates: all of it, its dims, and the units of groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, TypeAlias

from secateurs.types import Counts, Group, Price

if TYPE_CHECKING:
    from secateurs.graph.network import Factors, Graph, Sizes

Key: TypeAlias = int | str
"""What costs: the number of a product, the name of a parameter."""


def total(graph: Graph, currency: str, sizes: Sizes) -> int:
    """What all of a network costs, in ``macs`` or ``parameters``, after dims took these sizes."""
    volumes = {key: graph.volume(axes, sizes) for axes, key in _volumes(graph, currency)}
    found = sum(volumes.values())
    for name, size in sizes.items():
        dim = graph.dims[name]
        found -= sum(volumes[key] for key in _listed(graph, name, currency)) * (dim.size - size) // dim.size
    return found


def saving(graph: Graph, dim: str, currency: str) -> int:
    """What one position less of a dim saves, in ``macs`` or ``parameters``."""
    less = {dim: graph.dims[dim].size - 1}
    carrying, listed = set(_carrying(graph, dim, currency)), set(_listed(graph, dim, currency))
    volumes = _volumes(graph, currency)
    beside = sum(graph.volume(axes, {}) for axes, key in volumes if key in listed) // graph.dims[dim].size
    return beside + sum(graph.volume(axes, {}) - graph.volume(axes, less) for axes, key in volumes if key in carrying)


def price(graph: Graph, groups: Sequence[Group], currency: str) -> Price:
    """What the units of groups cost, in ``units``, ``parameters`` or ``macs``."""
    if currency == "units":
        return Price.linear(groups, {group.name: 1.0 for group in groups})
    ours = {key for group in groups for dim in group.dims for key in _carrying(graph, dim, currency)}
    owners: dict[Key, list[Group]] = {}
    for group in groups:
        for key in dict.fromkeys(_owned(graph, group, currency)):
            owners.setdefault(key, []).append(group)
    held = [(axes, owners.get(key, [])) for axes, key in _volumes(graph, currency) if key in owners or key in ours]

    def of(counts: Counts) -> float:
        sizes = {d: graph.dims[d].size + counts[g.name] - g.block for g in groups for d in g.dims[-1:]}
        return sum(graph.volume(axes, sizes) * prod(counts[w.name] / w.block for w in ws) for axes, ws in held)

    return Price({group.name: _unit_cost(graph, group, currency) for group in groups}, of)


def _volumes(graph: Graph, currency: str) -> list[tuple[tuple[Factors, ...], Key]]:
    if currency == "macs":
        return [(product.axes, i) for i, product in enumerate(graph.products)]
    return [(graph.tensors[name], name) for name in graph.trainable]


def _carrying(graph: Graph, dim: str, currency: str) -> Iterable[Key]:
    if currency == "macs":
        return graph.products_of[dim]
    return {tensor for tensor, _ in graph.carriers[dim]} & graph.trainable


def _owned(graph: Graph, group: Group, currency: str) -> Iterator[Key]:
    """What costs less in proportion to the units that go: all of a layer, the products of a weight."""
    if group.dims:
        yield from _listed(graph, group.dims[-1], currency)
        return
    names = {member.tensor for member in group.members}
    skipped = tuple(f"{skip.module}." for residual in group.residuals for skip in residual.skips)
    if currency != "macs":
        yield from names
        return
    for i, product in enumerate(graph.products):
        if f"{product.module}.".startswith(skipped) if group.residuals else product.weight in names:
            yield i


def _listed(graph: Graph, dim: str, currency: str) -> Iterator[Key]:
    """What the modules in lists cost that go with the positions of a dim.

    Of their products nothing where they share the work, as those do that a router picks: the others then do it.
    """
    for modules in graph.dims[dim].modules:
        owners = {tensor: i for i, it in enumerate(modules) for tensor in graph.tensors if tensor.startswith(f"{it}.")}
        if currency != "macs":
            yield from owners.keys() & graph.trainable
            continue
        products = {i: owners[it.weight] for i, it in enumerate(graph.products) if it.weight in owners}
        work = [0] * len(modules)
        for i, owner in products.items():
            work[owner] += graph.volume(graph.products[i].axes, {})
        if min(work) == max(work):
            yield from products


def _unit_cost(graph: Graph, group: Group, currency: str) -> float:
    if group.dims:
        outer = prod(graph.dims[dim].size for dim in group.dims[:-1])
        return saving(graph, group.dims[-1], currency) / outer
    owned = set(_owned(graph, group, currency))
    return sum(graph.volume(axes, {}) for axes, key in _volumes(graph, currency) if key in owned) / group.n_units
