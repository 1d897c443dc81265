"""Where what two weights give is multiplied with each other, as queries and keys are, and summed over a dim."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from secateurs.types import Side

if TYPE_CHECKING:
    from secateurs.graph.network import Factors, Graph

Stretch = tuple[str, int, "Factors", Tensor]
"""A weight, the axis of its outputs, what is around some of them that are one axis later, and their positions."""


def found(graph: Graph, dims: tuple[str, ...]) -> tuple[tuple[Side, Side], ...]:
    """The products of two activations that are summed over the last of these dims, inside of the others.

    Only those where the two weights that give the factors are known: the only ones with such outputs in the module that
    computes the product, or else in the nearest one around it.
    """
    products = (graph.products[i] for i in graph.products_of[dims[-1]])
    met = {(it.module, it.axes[-2]): None for it in products if it.weight is None and len(it.axes) > 2}
    ours = ((module, summed) for module, summed in met if bool((graph.coordinates(summed, dims[-1]) >= 0).any()))
    pairs = (_near(graph, module, summed) for module, summed in ours)
    sides = (_sides(graph, pair[0], pair[1], dims) for pair in pairs if len(pair) == 2)
    return tuple(it for it in sides if it is not None)


def _near(graph: Graph, module: str, summed: Factors) -> list[Stretch]:
    """The outputs of weights, as near to a module as there are several, that are an axis which is summed over."""
    some: list[Stretch] = []
    steps = [f"{step}." for step in module.split(".") if step]
    for depth in range(len(steps), -1, -1):
        near = "".join(steps[:depth])
        axes = [(it.name, axis) for it in graph.weights if it.name.startswith(near) for axis in it.outputs]
        some = [(*at, *run) for at in axes for run in _runs(graph, graph.tensors[at[0]][at[1]], summed)]
        if len(some) > 1:
            break
    return some


def _runs(graph: Graph, axis: Factors, inner: Factors) -> Iterator[tuple[Factors, Tensor]]:
    """Every stretch of an axis that ends in these factors: what is around them, and the positions."""
    outer, last = axis[: len(axis) - len(inner)], axis[-1:]
    if axis[len(outer) :] == inner:
        yield outer, torch.arange(graph.size(axis))
        return
    each = torch.arange(graph.size(axis[:-1]))[:, None] * graph.size(last)
    for part in getattr(last[0], "parts", ()) if last else ():
        for around, positions in _runs(graph, part, inner):
            yield (*axis[:-1], *around), (each + positions).flatten()
        each = each + graph.size(part)


def _sides(graph: Graph, one: Stretch, other: Stretch, dims: tuple[str, ...]) -> tuple[Side, Side] | None:
    """Both by units; what is around the units in both, outermost, makes products of its own."""
    both = takewhile(lambda pair: pair[0] == pair[1], zip(one[2], other[2], strict=False))
    shared = prod(graph.size((factor,)) for factor, _ in both if factor not in dims)
    n_units = prod(graph.dims[dim].size for dim in dims)
    sides = []
    for name, axis, _, positions in (one, other):
        unit = graph.units(graph.tensors[name][axis], dims)[positions]
        order = unit.argsort(stable=True)[int((unit < 0).sum()) :]
        if not len(order) or len(order) % (n_units * shared):  # not all of the outer dims are around it
            return None
        sides.append(Side(name, axis, positions[order].reshape(n_units, shared, -1)))
    return sides[0], sides[1]
