"""A ratio is pruned over dense, the measured one first, and None rather than a made-up number."""

from __future__ import annotations

import math

from secateurs.report.comparison import Comparison
from secateurs.types import Reading


def _reading(measure: str, value: float) -> Reading:
    return Reading(measure, value, "s", "measured")


def test_ratio_of_two_readings() -> None:
    it = Comparison({"macs": _reading("macs", 8.0)}, {"macs": _reading("macs", 2.0)})
    assert it.ratio("macs") == 0.25


def test_ratio_that_was_measured_as_a_pair_wins() -> None:
    both = {"latency": _reading("latency", 8.0)}
    it = Comparison(both, both, {"latency": Reading("latency_ratio", 0.98, "1", "measured", (0.9, 1.1))})
    assert it.ratio("latency") == 0.98


def test_no_ratio_is_made_up() -> None:
    dense = {"energy": _reading("energy", math.nan), "zero": _reading("zero", 0.0), "alone": _reading("alone", 1.0)}
    it = Comparison(dense, {"energy": _reading("energy", 1.0), "zero": _reading("zero", 0.0)})
    assert [it.ratio(name) for name in ("energy", "zero", "alone", "unknown")] == [None] * 4
