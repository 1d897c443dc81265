"""Layers that repeat are told once: ``layer.{0-11}.ffn``, where all else is the same but for the index."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from secateurs.types import Dim


class Priced(Protocol):
    """A dim and what it costs, in all and by the unit."""

    @property
    def dim(self) -> Dim: ...
    @property
    def unit_macs(self) -> int: ...
    @property
    def unit_parameters(self) -> int: ...
    @property
    def macs(self) -> int: ...
    @property
    def parameters(self) -> int: ...


@dataclass(frozen=True)
class Folded:
    """Dims that differ in the index of their layer only."""

    first: Priced
    names: tuple[str, ...]

    @property
    def label(self) -> str:
        return span(self.names)


def folded(costs: Iterable[Priced]) -> list[Folded]:
    """Dims of one size, role, cost and reason, whose names and carriers differ in an index only, in one.

    Args:
        costs: Of dims.
    """
    together: dict[Hashable, list[Priced]] = {}
    for cost in costs:
        dim = cost.dim
        alike = (pattern(dim.name), dim.size, dim.role, dim.frozen, dim.flagged, tuple(map(pattern, dim.carriers)))
        priced = (cost.unit_macs, cost.unit_parameters, cost.macs, cost.parameters)
        together.setdefault((alike, priced), []).append(cost)
    return [Folded(same[0], tuple(cost.dim.name for cost in same)) for same in together.values()]


def pattern(name: str) -> str:
    """The name without the indices of layers; positions in brackets stay.

    Args:
        name: Of a dim, a module or a carrier.
    """
    return re.sub(r"(?<=\.)\d+(?=\.)", "#", name)


def span(names: Sequence[str]) -> str:
    """``a.0.b``, ``a.1.b``, ``a.3.b`` as ``a.{0-1,3}.b``; one name as it is.

    Args:
        names: That differ in indices only.
    """
    parts = [name.split(".") for name in names]
    return ".".join(column[0] if len(set(column)) == 1 else _ranges(column) for column in zip(*parts, strict=True))


def _ranges(indices: Iterable[str]) -> str:
    found: list[list[int]] = []
    for i in sorted({int(i) for i in indices}):
        if found and i == found[-1][1] + 1:
            found[-1][1] = i
        else:
            found.append([i, i])
    return "{" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in found) + "}"
