"""The dims of a network as tables: what can shrink and what it costs, and what cannot and why.

Repeated layers share a row: ``layer.{0-11}.ffn``, where size, costs and carriers are the same but for the index.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from secateurs.report.numbers import number
from secateurs.report.table import rows
from secateurs.types import Dim

if TYPE_CHECKING:
    from rich.table import Table


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
class _Row:
    """Dims that differ in the index of their layer only."""

    first: Priced
    names: tuple[str, ...]


def prunable(costs: Sequence[Priced], *, every_carrier: bool = False) -> Table:
    """The dims that can shrink: what one unit and what all units cost, and who carries them.

    Args:
        costs: Of all dims.
        every_carrier: Whether to name every tensor axis that carries a dim, or the first two and how many more.
    """
    free = [cost for cost in costs if cost.dim.frozen is None]
    columns = {"dim": False, "size": True, "MACs\n/unit": True, "params\n/unit": True, "MACs": True, "params": True}
    lines = []
    for row in _folded(free):
        it = row.first
        about = f"{_span(row.names)}\n  {it.dim.role}; {_carriers(it.dim, every_carrier)}"
        counts = (it.unit_macs, it.unit_parameters, it.macs, it.parameters)
        lines.append((about, it.dim.size, *(number(float(n), "parameters") for n in counts)))
    return rows(columns, lines, title=f"{len(free)} dims that can shrink")


def frozen(costs: Sequence[Priced]) -> Table:
    """The dims that cannot shrink, and why; those with the same reason, role and size share a row.

    Args:
        costs: Of all dims.
    """
    held = [cost for cost in costs if cost.dim.frozen is not None]
    together: dict[tuple[str | None, str, int], list[str]] = {}
    for cost in held:
        together.setdefault((cost.dim.frozen, cost.dim.role, cost.dim.size), []).append(cost.dim.name)
    columns = {"dim": False, "role": False, "size": True, "frozen because": False}
    lines = [(_listed(names), role, size, why) for (why, role, size), names in together.items()]
    return rows(columns, lines, title=f"{len(held)} dims that are frozen")


def _folded(costs: Iterable[Priced]) -> list[_Row]:
    together: dict[Hashable, list[Priced]] = {}
    for cost in costs:
        dim = cost.dim
        alike = (_pattern(dim.name), dim.size, dim.role, tuple(map(_pattern, dim.carriers)))
        priced = (cost.unit_macs, cost.unit_parameters, cost.macs, cost.parameters)
        together.setdefault((alike, priced), []).append(cost)
    return [_Row(same[0], tuple(cost.dim.name for cost in same)) for same in together.values()]


def _pattern(name: str) -> str:
    """The name without the indices of layers; positions in brackets stay."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "#", name)


def _span(names: Sequence[str]) -> str:
    """``a.0.b``, ``a.1.b``, ``a.3.b`` as ``a.{0-1,3}.b``; one name as it is."""
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


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _carriers(dim: Dim, every: bool) -> str:
    if every:
        return "carried by\n" + "\n".join(f"  {carrier}" for carrier in dim.carriers)
    shown = ", ".join(_without_prefix(carrier, dim.name) for carrier in dim.carriers[:2])
    hidden = len(dim.carriers) - 2
    return f"carried by {shown}" + (f" and {hidden} more" if hidden > 0 else "")


def _without_prefix(carrier: str, name: str) -> str:
    """What the carrier's name adds to the dim's own module path."""
    module = name.rpartition(".")[0]
    return carrier.removeprefix(f"{module}.") if module else carrier
