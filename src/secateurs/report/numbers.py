"""Numbers for people: three significant digits, SI prefixes, and changes that say which way they go."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the vocabulary loads torch, and these are asked for by `--help`
    from secateurs.types import Reading

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
_SCALED = frozenset({"s", "J", "W", "Wh", "g", "V", "Hz"})
"""Units that are divided below one; a count (B, MAC, parameters) never is."""
_PLAIN = frozenset({"1", "parameters"})
"""Units that the name of the measure says already."""


def number(value: float, unit: str = "1") -> str:
    """Write a value with its unit, e.g. ``12.3 ms``, ``1.25 MB``, ``0.9520``; ``-`` where there is none.

    Args:
        value: In ``unit``.
        unit: As in ``Reading``; ``1`` is a plain number.
    """
    if not math.isfinite(value):
        return "-"
    if unit == "1" and not _is_count(value):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
    return _scaled(value, "" if unit in _PLAIN else unit)


def _is_count(value: float) -> bool:
    return float(value).is_integer() and abs(value) > 1


def _scaled(value: float, unit: str) -> str:
    if value == 0:
        return f"0 {unit}".rstrip()
    smallest = 1e-9 if unit in _SCALED else 1.0
    rounded = float(f"{value:.3g}")  # 999.9 becomes 1.00 k, not 1000
    steps = [step for step in _PREFIXES if step[0] >= smallest]
    factor, prefix = next((step for step in steps if abs(rounded) >= step[0]), steps[-1])
    shown = rounded / factor
    digits = 0 if factor == 1.0 and _is_count(value) else max(0, 2 - math.floor(math.log10(abs(shown))))
    return f"{shown:.{min(digits, 6)}f} {prefix}{unit}".rstrip()


def interval(spread: tuple[float, float] | None, unit: str = "1") -> str:
    """Write a 95 % interval as ``[0.60, 0.64]``, or nothing where there is none.

    Args:
        spread: Lower and upper end, in ``unit``.
        unit: As in ``Reading``.
    """
    if spread is None or not all(map(math.isfinite, spread)):
        return ""
    low, high = (f"{end:.2f}" if unit == "1" else number(end, unit) for end in spread)
    return f"[{low}, {high}]"


def change(dense: Reading, pruned: Reading, ratio: Reading | None = None) -> str:
    """Write how a measure changed: a signed difference for a fraction, the ratio where it was measured, else per cent.

    Args:
        dense: Of the network as given.
        pruned: Of the pruned network, the same measure.
        ratio: Pruned over dense; used where it carries an interval of its own.
    """
    if ratio is not None and ratio.spread is not None:
        return f"{ratio.value:.2f}x {interval(ratio.spread)}".rstrip()
    if not (math.isfinite(dense.value) and math.isfinite(pruned.value)):
        return "-"
    difference = pruned.value - dense.value
    if difference == 0:
        return "same"
    if dense.unit == "1" and dense.how != "counted":
        return f"{difference:+.4f}"
    return f"{100 * difference / dense.value:+.1f} %" if dense.value else f"{difference:+.3g}"


def seconds(value: float) -> str:
    """Write a duration as ``4.2 s``, ``3 min 05 s`` or ``2 h 07 min``.

    Args:
        value: In seconds.
    """
    if not math.isfinite(value):
        return "-"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
