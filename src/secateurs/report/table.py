"""Readings as terminal tables that fit 100 columns and wrap below that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from secateurs.report.comparison import Comparison
from secateurs.report.numbers import change, interval, number
from secateurs.types import Reading

if TYPE_CHECKING:
    from rich.table import Table

TITLES = MappingProxyType(
    {
        "macs": "MACs",
        "nominal_macs": "MACs, nominal",
        "latency": "latency",
        "nonzero_parameters": "parameters, non-zero",
        "memory": "peak memory",
        "size": "size on disk",
        "f1": "F1",
        "matthews": "Matthews correlation",
    }
)
"""Measures whose name alone would not tell a newcomer what it is."""


def comparison(it: Comparison, title: str | None = None) -> Table:
    """One row per measure: dense, pruned, change, and how the numbers were got.

    Args:
        it: The comparison.
        title: Shown above.
    """
    table = _table(title)
    table.add_column("measure", style="bold", overflow="fold")
    table.add_column("dense", justify="right", no_wrap=True)
    table.add_column("pruned", justify="right", no_wrap=True)
    table.add_column("change", justify="right", overflow="fold")
    table.add_column("how", style="dim", overflow="fold")
    for name in _order(it):
        dense, pruned = it.dense.get(name), it.pruned.get(name)
        if dense is None or pruned is None:
            table.add_row(_clocked(name, dense or pruned), _value(dense), _value(pruned), "-", _how(dense or pruned))
        else:
            shown = change(dense, pruned, it.paired.get(name))
            table.add_row(_clocked(name, pruned), _value(dense), _value(pruned), shown, _how(pruned))
    return table


def _order(it: Comparison) -> list[str]:
    names = [*it.dense, *(name for name in it.pruned if name not in it.dense)]
    return [name for name in names if name != "nonzero_parameters" or not all(map(_all_nonzero, (it.dense, it.pruned)))]


def _all_nonzero(them: Mapping[str, Reading]) -> bool:
    """Whether the row of the non-zero parameters would only repeat that of the parameters (to 1 %)."""
    stored, nonzero = them.get("parameters"), them.get("nonzero_parameters")
    return stored is not None and nonzero is not None and nonzero.value > 0.99 * stored.value


def readings(them: Mapping[str, Reading], title: str | None = None) -> Table:
    """One row per reading: value, 95 % interval and how it was got.

    Args:
        them: Measure -> reading.
        title: Shown above.
    """
    table = _table(title)
    table.add_column("measure", style="bold", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", overflow="fold")
    table.add_column("how", style="dim", overflow="fold")
    for name, it in them.items():
        table.add_row(_clocked(name, it), _value(it), _interval(it), _how(it))
    return table


def notes(them: Mapping[str, Reading]) -> list[str]:
    """A line for each reading that has a note.

    Args:
        them: Measure -> reading.
    """
    return [f"{_title(name)}: {it.note}" for name, it in them.items() if it.note]


def rows(columns: Mapping[str, bool], lines: Sequence[Sequence[Any]], title: str | None = None) -> Table:
    """A plain table.

    Args:
        columns: Heading -> whether its cells are numbers (set to the right, never broken).
        lines: One sequence of cells per row.
        title: Shown above.
    """
    table = _table(title)
    for name, numeric in columns.items():
        table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for line in lines:
        table.add_row(*map(str, line))
    return table


def _table(title: str | None) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _title(name: str) -> str:
    return TITLES.get(name, name.replace("_", " "))


def _clocked(name: str, it: Reading | None) -> str:
    """The title, for a latency with its clock: the wall's for one network, mostly the processor's for two."""
    clock = (it.source or "").partition(",")[0] if it is not None and name == "latency" else ""
    short = {"process CPU time": "CPU time"}.get(clock, clock)
    return f"{_title(name)}, {short}" if short else _title(name)


def _value(it: Reading | None) -> str:
    return "-" if it is None else number(it.value, it.unit)


def _interval(it: Reading) -> str:
    if it.spread is None:
        return ""
    if it.unit == "1":
        return "[{:.4f}, {:.4f}]".format(*it.spread)
    return interval(it.spread, it.unit)


def _how(it: Reading | None) -> str:
    if it is None:
        return ""
    parts = [it.how, it.source or ""]
    return ", ".join(part for part in parts if part)
