"""Configurations go through JSON and come back."""

from __future__ import annotations

import json
import math

from secateurs.search import Configuration
from secateurs.types import Reading

ACCURACY = Reading("accuracy", 0.9, "1", "measured", spread=(0.8, 0.95), samples=100)
RATIO = Reading("latency_ratio", 0.5, "1", "measured", spread=(0.4, 0.6), source="wall clock", note="inconclusive")


def test_round_trip() -> None:
    one = Configuration(
        3, 0.25, True, 7, 2, ACCURACY, {"latency": RATIO}, {"latency": RATIO}, 1.5, Reading("e", 3.0, "J", "modelled")
    )
    assert Configuration.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert one.point == {"latency": 0.5}


def test_what_is_not_there_stays_away() -> None:
    one = Configuration(1, 0.9, False, 1, reason="too much")
    assert Configuration.from_dict(one.to_dict()) == one


def test_a_number_that_is_not_finite_comes_back_as_nan() -> None:
    one = Configuration(1, 0.9, False, 1, quality=Reading("perplexity", math.inf, "1", "measured"))
    text = json.dumps(one.to_dict(), allow_nan=False)
    back = Configuration.from_dict(json.loads(text)).quality
    assert back is not None and math.isnan(back.value)
