"""One evaluated p: what it gives, what it costs, and whether the bound holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from secateurs.archive import plain
from secateurs.types import Reading

Readings = Mapping[str, Reading]
"""Name of the measure -> reading."""


@dataclass(frozen=True)
class Configuration:
    """One row of the search's journal.

    Args:
        number: From 1, in the order of evaluation.
        p: Sparsity asked of the recipe: the fraction of its allocation's currency that goes.
        holds: Whether A(W') keeps the bound on the split that decides.
        seed: Of everything random in this evaluation.
        continued: Number of the configuration that pruning went on from; 0 is the dense network.
        quality: A(W') on the split that decides; None where p could not be pruned.
        readings: ``parameters``, ``macs`` (C), ``latency`` (T), ``energy`` (E) of W'.
        ratio: The same over those of the dense network.
        seconds: That the evaluation took, measurements included.
        spent: Joules that it took; None where no meter reads this machine.
        reason: Why it does not hold.
    """

    number: int
    p: float
    holds: bool
    seed: int
    continued: int = 0
    quality: Reading | None = None
    readings: Readings = field(default_factory=dict)
    ratio: Readings = field(default_factory=dict)
    seconds: float = 0.0
    spent: Reading | None = None
    reason: str | None = None

    @property
    def point(self) -> dict[str, float]:
        """Its place among the objectives: ratios to the dense network."""
        return {name: reading.value for name, reading in self.ratio.items()}

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        packed: dict[str, Any] = plain(self)
        return packed

    @classmethod
    def from_dict(cls, packed: Mapping[str, Any]) -> Configuration:
        """The configuration that ``to_dict`` wrote.

        Raises:
            TypeError: Fields are missing or too many.
        """
        made = dict(packed)
        for name in ("quality", "spent"):
            made[name] = unpack_reading(made[name]) if made.get(name) else None
        for name in ("readings", "ratio"):
            made[name] = unpack_readings(made.get(name, {}))
        return cls(**made)


def unpack_reading(packed: Mapping[str, Any]) -> Reading:
    """A reading from JSON; a number that was not finite comes back as NaN."""
    made: dict[str, Any] = {f.name: packed.get(f.name) for f in fields(Reading)}
    made["value"] = _number(made["value"])
    if made["spread"] is not None:
        made["spread"] = tuple(map(_number, made["spread"]))
    return Reading(**made)


def _number(value: Any) -> float:
    return float("nan") if value is None else value


def unpack_readings(packed: Mapping[str, Mapping[str, Any]]) -> dict[str, Reading]:
    """Readings by name, from JSON."""
    return {name: unpack_reading(reading) for name, reading in packed.items()}
