"""What was found, as rows in a file that is complete after every one; and what they come to, as a table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covering.values import SAME

ENOUGH = 0.03
"""Fraction of the parameters below which nothing worth the name was removed."""

OURS, PLAIN, HEADS, EAGER = "secateurs", "torch-pruning, plain", "torch-pruning, heads", "torch-pruning, heads, eager"
Row = dict[str, Any]


def exact(row: Row) -> bool:
    """Pruned, and computes what the masked network computes."""
    gone, apart = row.get("removed"), row.get("difference")
    return gone is not None and gone > ENOUGH and apart is not None and apart <= SAME


def reloaded(row: Row) -> bool:
    return isinstance(row.get("reloaded"), float) and row["reloaded"] <= SAME


def heads_gone(row: Row) -> bool:
    before, after = row.get("heads") or (0, 0)
    return bool(after < before)


@dataclass
class Rows:
    """The rows of a run: ``(architecture, tool) -> row``."""

    path: Path
    about: dict[str, Any]
    rows: dict[tuple[str, str], Row]

    @classmethod
    def opened(cls, path: Path, about: dict[str, Any], keep: Any) -> Rows:
        """Those of an earlier run that are kept: ``keep(name, tool, finished)``."""
        rows: dict[tuple[str, str], Row] = {}
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            found = {(row["name"], row["tool"]): row for row in before["rows"]}
            rows = {key: row for key, row in found.items() if keep(*key, before["finished"])}
        return cls(path, about, rows)

    def write(self, finished: bool = False) -> None:
        """All rows and what they come to, aside and then renamed."""
        document = {**self.about, "finished": finished, "summary": summary(self), "rows": list(self.rows.values())}
        aside = self.path.with_suffix(".partial")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        os.replace(aside, self.path)

    def of(self, tool: str) -> list[Row]:
        return [row for (_, of), row in self.rows.items() if of == tool]

    def peer(self, name: str) -> Row:
        """The better of the calls with heads given."""
        found = [self.rows[name, tool] for tool in (HEADS, EAGER) if (name, tool) in self.rows]
        return next((row for row in found if exact(row)), found[0] if found else {})


def summary(rows: Rows) -> dict[str, str]:
    ours = rows.of(OURS)
    pruned = [row for row in ours if exact(row)]
    attention = [row for row in ours if row.get("attention")]
    said = {
        "traced": _of(sum(bool(row.get("traced")) for row in ours), len(ours)),
        "pruned and exact": _of(len(pruned), len(ours)),
        "of those, reloaded in a new process": _of(sum(map(reloaded, pruned)), len(pruned)),
        "of those, backward": _of(sum(bool(row.get("backward")) for row in pruned), len(pruned)),
        "of those, rewritten as operators": _of(sum(row.get("rewritten") is True for row in pruned), len(pruned)),
        "heads removed, of those with attention": _of(sum(map(heads_gone, attention)), len(attention)),
        "processor seconds to prune, median": f"{_median(row.get('seconds') for row in pruned):.2f}",
    }
    plain = rows.of(PLAIN)
    if plain:
        best = [rows.peer(row["name"]) for row in plain]
        for tool, found in ((PLAIN, plain), ("torch-pruning, documented (the better of two)", best)):
            said[f"{tool}: runs"] = _of(sum(bool(row.get("runs")) for row in found), len(found))
            said[f"{tool}: pruned and exact"] = _of(sum(map(exact, found)), len(found))
        said["torch-pruning: processor seconds, median"] = f"{_median(row.get('seconds') for row in plain):.2f}"
    return said


def _of(n: int, total: int) -> str:
    return f"{n}/{total} ({n / total:.1%})" if total else "0/0"


def _median(values: Iterable[float | None]) -> float:
    found = sorted(value for value in values if value is not None)
    return found[len(found) // 2] if found else 0.0


# ---------------------------------------------------------------------------------------------------------- shown


def misses(row: Row) -> list[str]:
    """What of all that is asked does not hold for one of our rows, each in a line."""
    found = []
    if not exact(row):
        gone = row.get("removed")
        few = f"{gone:.1%} of the parameters removed" if gone is not None and gone <= ENOUGH else ""
        apart = row.get("difference")
        far = f"differs from the masked one by {apart:.1e}" if apart is not None and apart > SAME else ""
        why = "; ".join(row.get("stays", [])[:1] or row.get("frozen", []))
        found.append(f"{row.get('error') or far or few}{f' ({why})' if why and not far else ''}")
    elif not reloaded(row):
        found.append(f"not reloaded: {row.get('reloaded') or row.get('error') or 'not saved'}")
    elif not row.get("backward"):
        found.append(f"no backward pass: {row.get('error') or 'gradients are not finite'}")
    if row.get("attention") and not heads_gone(row):
        why = row.get("heads_stay") or [line for line in row.get("stays", []) if "head" in line]
        found.append(f"heads stay: {'; '.join(why[:2] or row.get('frozen', [])) or 'no dim of heads was found'}")
    return [f"{row['name']}: {line}" for line in found]


def line(rows: Rows, name: str) -> tuple[str, ...]:
    ours = rows.rows.get((name, OURS), {})
    before, after = ours.get("heads") or (0, 0)
    cells = [
        f"{name}{' *' if ours.get('rewritten') is True else ''}",
        _removed(ours),
        f"{before}>{after}" if before else "",
        _apart(ours),
    ]
    cells += ["yes" if ours.get("backward") else "no", "yes" if reloaded(ours) else "no", _seconds(ours)]
    for row in (rows.rows.get((name, PLAIN), {}), rows.peer(name)):
        cells += (
            [_removed(row), _apart(row) or ("runs" if row.get("runs") else "no"), _seconds(row)]
            if row
            else ["", "", ""]
        )
    return tuple(cells)


HEAD = ("architecture", "removed", "heads", "apart", "backward", "reloaded", "CPU s")
HEAD += ("| peer", "apart", "CPU s", "| heads given", "apart", "CPU s")


def table(rows: Rows) -> str:
    """One line for each architecture (* rewritten as its operators), what they come to, and every miss of ours."""
    names = dict.fromkeys(name for name, _ in rows.rows)
    lines = [HEAD, *(line(rows, name) for name in names)]
    widths = [max(len(cells[i]) for cells in lines) for i in range(len(HEAD))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in lines]
    found = [miss for row in rows.of(OURS) for miss in misses(row)]
    said = [f"{what}: {value}" for what, value in summary(rows).items()]
    return "\n".join([*text, "", *(["misses:", *found, ""] if found else []), *said])


def _removed(row: Row) -> str:
    return "" if row.get("removed") is None else f"{row['removed']:.1%}"


def _apart(row: Row) -> str:
    return "" if row.get("difference") is None else f"{row['difference']:.0e}"


def _seconds(row: Row) -> str:
    return "" if row.get("seconds") is None else f"{row['seconds']:.2f}"
