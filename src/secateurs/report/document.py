"""Readings as plain dictionaries: what ``--json`` prints and what a journal or a manifest keeps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from secateurs.archive import plain
from secateurs.report.comparison import Comparison
from secateurs.types import Reading

RATIOS = ("latency", "macs", "parameters", "energy")
"""The measures whose ratio is always in the document, null where it is not known."""


def text(document: Mapping[str, Any]) -> str:
    """Write a document as JSON that every parser takes: no NaN, no infinity.

    Args:
        document: Anything ``plain`` takes.
    """
    return json.dumps(plain(document), allow_nan=False, ensure_ascii=False, indent=2)


def reading(it: Reading) -> dict[str, Any]:
    """A reading as ``{value, unit, how, spread, source, samples, note}``.

    Args:
        it: The reading.
    """
    return {
        "value": plain(it.value),
        "unit": it.unit,
        "how": it.how,
        "spread": plain(it.spread),
        "source": it.source,
        "samples": it.samples,
        "note": it.note,
    }


def readings(them: Mapping[str, Reading]) -> dict[str, Any]:
    """Readings by measure.

    Args:
        them: Measure -> reading.
    """
    return {name: reading(it) for name, it in them.items()}


def read(measure: str, document: Mapping[str, Any]) -> Reading:
    """The reading that ``reading`` wrote down; null values come back as NaN.

    Args:
        measure: Its name.
        document: What ``reading`` returned, perhaps by way of JSON.
    """
    value, spread = document["value"], document.get("spread")
    return Reading(
        measure=measure,
        value=_number(value),
        unit=document["unit"],
        how=document["how"],
        spread=None if spread is None else (_number(spread[0]), _number(spread[1])),
        source=document.get("source"),
        samples=document.get("samples"),
        note=document.get("note"),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def comparison(it: Comparison) -> dict[str, Any]:
    """``dense`` and ``pruned`` by measure, ``ratio`` (plain numbers), ``ratio_spread`` and ``notes``.

    Args:
        it: The comparison.
    """
    names = [*RATIOS, *(name for name in it.dense if name in it.pruned and name not in RATIOS)]
    return {
        "dense": readings(it.dense),
        "pruned": readings(it.pruned),
        "ratio": {name: plain(it.ratio(name)) for name in names},
        "ratio_spread": {name: plain(pair.spread) for name, pair in it.paired.items()},
        "paired": {name: {"measure": pair.measure, **reading(pair)} for name, pair in it.paired.items()},
        "notes": list(it.notes),
    }


def read_comparison(document: Mapping[str, Any]) -> Comparison:
    """The comparison that ``comparison`` wrote down.

    Args:
        document: What ``comparison`` returned, perhaps by way of JSON.
    """
    return Comparison(
        dense={name: read(name, it) for name, it in document["dense"].items()},
        pruned={name: read(name, it) for name, it in document["pruned"].items()},
        paired={name: read(it["measure"], it) for name, it in document["paired"].items()},
        notes=tuple(document["notes"]),
    )
