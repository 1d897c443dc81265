"""Whatever goes in comes out as JSON that a strict parser takes, and readings survive the way there and back."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from secateurs.report import document
from secateurs.report.comparison import Comparison
from secateurs.types import Reading

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@given(st.dictionaries(st.text(), anything, max_size=3))
def test_text_is_strict_json(value: dict[str, Any]) -> None:
    json.loads(document.text(value), parse_constant=_refuse)


readings = st.builds(
    Reading,
    measure=st.just("x"),
    value=st.floats(allow_infinity=False),
    unit=st.sampled_from(["1", "s", "J"]),
    how=st.sampled_from(["counted", "measured", "modelled"]),
    spread=st.none() | st.tuples(st.floats(allow_infinity=False), st.floats(allow_infinity=False)),
    source=st.none() | st.text(),
    samples=st.none() | st.integers(0),
    note=st.none() | st.text(),
)


@given(readings)
def test_a_reading_comes_back(it: Reading) -> None:
    back = document.read("x", json.loads(document.text(document.reading(it))))
    assert repr(back) == repr(it)


def test_a_comparison_comes_back_and_always_has_the_four_ratios() -> None:
    dense = {"macs": Reading("macs", 8.0, "MAC", "counted"), "latency": Reading("latency", 2.0, "s", "measured")}
    pruned = {"macs": Reading("macs", 2.0, "MAC", "counted"), "latency": Reading("latency", 1.0, "s", "measured")}
    it = Comparison(dense, pruned, {"latency": Reading("latency_ratio", 0.55, "1", "measured", (0.5, 0.6))}, ("a",))
    written = json.loads(document.text(document.comparison(it)))
    assert written["ratio"] == {"latency": 0.55, "macs": 0.25, "parameters": None, "energy": None}
    assert written["ratio_spread"] == {"latency": [0.5, 0.6]}
    assert set(written["dense"]["macs"]) >= {"value", "unit", "how", "spread", "source"}
    assert document.read_comparison(written) == it
