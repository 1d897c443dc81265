"""Numbers are short, carry their unit and never claim a change that is not there."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateurs.report.numbers import change, interval, number, seconds
from secateurs.types import Reading


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.952, "1", "0.9520"),
        (26.04, "1", "26.04"),
        (61706, "parameters", "61.7 k"),
        (3, "parameters", "3"),
        (999.9e6, "MAC", "1.00 GMAC"),
        (416520, "MAC", "417 kMAC"),
        (0.01234, "s", "12.3 ms"),
        (0.0, "J", "0 J"),
        (812.0, "B", "812 B"),
        (0.4, "B", "0.400 B"),
        (-0.2, "J", "-200 mJ"),
        (math.nan, "J", "-"),
        (math.inf, "s", "-"),
    ],
)
def test_number(value: float, unit: str, shown: str) -> None:
    assert number(value, unit) == shown


@given(st.floats(min_value=1e-9, max_value=1e14))
def test_a_scaled_number_reads_back_within_its_three_digits(value: float) -> None:
    text = number(value, "s")
    prefixes = {"n": 1e-9, "µ": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    digits, unit = text.split()
    assert math.isclose(float(digits) * prefixes[unit[:-1]], value, rel_tol=0.006)
    assert len(text) <= 9


def test_interval_is_empty_where_there_is_none() -> None:
    assert interval(None) == ""
    assert interval((math.nan, 1.0)) == ""
    assert interval((0.601, 0.642)) == "[0.60, 0.64]"
    assert interval((0.0012, 0.0013), "s") == "[1.20 ms, 1.30 ms]"


def _reading(value: float, unit: str = "MAC", how: str = "counted") -> Reading:
    return Reading("x", value, unit, how)  # type: ignore[arg-type]


def test_change_of_a_fraction_is_a_difference() -> None:
    assert change(_reading(0.972, "1", "measured"), _reading(0.968, "1", "measured")) == "-0.0040"


def test_change_of_a_count_is_per_cent_or_same() -> None:
    assert change(_reading(200), _reading(150)) == "-25.0 %"
    assert change(_reading(200), _reading(200)) == "same"
    assert change(_reading(0), _reading(0)) == "same"


def test_change_prefers_a_ratio_that_was_measured_as_such() -> None:
    ratio = Reading("latency_ratio", 0.613, "1", "measured", spread=(0.59, 0.634))
    assert change(_reading(2.0, "s", "measured"), _reading(1.0, "s", "measured"), ratio) == "0.61x [0.59, 0.63]"


def test_change_of_what_is_not_known_is_not_known() -> None:
    assert change(_reading(math.nan, "J"), _reading(1.0, "J")) == "-"


@pytest.mark.parametrize(("value", "shown"), [(3.22, "3.2 s"), (185, "3 min 05 s"), (7650, "2 h 07 min")])
def test_seconds(value: float, shown: str) -> None:
    assert seconds(value) == shown
