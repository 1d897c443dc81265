"""The dims of a network as tables: what can shrink and what it costs, and what cannot and why.

Repeated layers share a row: ``layer.{0-11}.ffn``, where size, costs and carriers are the same but for the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from secateurs.report.folding import Priced, folded
from secateurs.report.numbers import number
from secateurs.report.reasons import explained
from secateurs.report.table import rows
from secateurs.types import Dim

if TYPE_CHECKING:
    from rich.table import Table


def prunable(costs: Sequence[Priced], *, every_carrier: bool = False) -> Table:
    """The dims that can shrink: what one unit and what all units cost, and who carries them.

    Args:
        costs: Of all dims.
        every_carrier: Whether to name every tensor axis that carries a dim, or the first two and how many more.
    """
    free = [cost for cost in costs if cost.dim.frozen is None]
    columns = {"dim": False, "size": True, "MACs\n/unit": True, "params\n/unit": True, "MACs": True, "params": True}
    lines = []
    for row in folded(free):
        it = row.first
        flagged = f"\n  {it.dim.flagged}" if it.dim.flagged else ""
        about = f"{row.label}\n  {it.dim.role}; {_carriers(it.dim, every_carrier)}{flagged}"
        counts = (it.unit_macs, it.unit_parameters, it.macs, it.parameters)
        lines.append((about, it.dim.size, *(number(float(n), "parameters") for n in counts)))
    return rows(columns, lines, title=f"{len(free)} dims that can shrink")


class Skippable(Protocol):
    """Like layers that can be skipped, and what one of them costs."""

    @property
    def name(self) -> str: ...

    @property
    def of(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def unit_macs(self) -> float: ...

    @property
    def unit_parameters(self) -> float: ...


def layers(depths: Sequence[Skippable]) -> Table:
    """The layers that can be skipped: how many there are in each chain, and what one of them costs on average.

    Args:
        depths: Of all chains.
    """
    columns = {"layers": False, "of": False, "number": True, "MACs\n/unit": True, "params\n/unit": True}
    lines = [
        (it.name, it.of, it.size, number(it.unit_macs, "parameters"), number(it.unit_parameters, "parameters"))
        for it in depths
    ]
    return rows(columns, lines, title=f"{len(depths)} chains of layers that can be skipped")


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
    lines = [(_listed(names), role, size, explained(why or "")) for (why, role, size), names in together.items()]
    return rows(columns, lines, title=f"{len(held)} dims that are frozen")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _carriers(dim: Dim, every: bool) -> str:
    modules = "".join(f"; with the modules of {names[0].rpartition('.')[0]}" for names in dim.modules)
    if every:
        return "carried by\n" + "\n".join(f"  {carrier}" for carrier in dim.carriers) + modules
    shown = ", ".join(_without_prefix(carrier, dim.name) for carrier in dim.carriers[:2])
    hidden = len(dim.carriers) - 2
    return f"carried by {shown}" + (f" and {hidden} more" if hidden > 0 else "") + modules


def _without_prefix(carrier: str, name: str) -> str:
    """What the carrier's name adds to the dim's own module path."""
    module = name.rpartition(".")[0]
    return carrier.removeprefix(f"{module}.") if module else carrier
