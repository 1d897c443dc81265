"""The front and the preferences, against their definitions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateurs.search.pareto import Lexicographic, Weights, front, preference
from secateurs.types import SecateursError

NAMES = ("macs", "latency", "energy", "parameters")
points = st.lists(st.fixed_dictionaries({name: st.integers(0, 4).map(float) for name in NAMES}), max_size=12)


@given(points, st.integers(1, 4))
def test_front_is_what_no_point_dominates(them: list[dict[str, float]], n: int) -> None:
    names = NAMES[:n]

    def dominates(a: dict[str, float], b: dict[str, float]) -> bool:
        return all(a[k] <= b[k] for k in names) and any(a[k] < b[k] for k in names)

    expected = [i for i, b in enumerate(them) if not any(dominates(a, b) for a in them)]
    assert list(front(them, names)) == expected


def test_equal_points_all_stay() -> None:
    assert front([{"macs": 1.0}, {"macs": 1.0}, {"macs": 2.0}], ["macs"]) == (0, 1)


def test_what_is_missing_or_no_number_counts_as_the_worst() -> None:
    them = [{"macs": 0.5, "latency": 0.9}, {"macs": 0.5}, {"macs": 0.5, "latency": math.nan}]
    assert front(them, ["macs", "latency"]) == (0,)
    assert front([]) == ()


def test_lexicographic_goes_on_where_equal() -> None:
    them = [{"macs": 0.5, "latency": 0.9}, {"macs": 0.5, "latency": 0.8}, {"macs": 0.6, "latency": 0.1}]
    assert Lexicographic()(them) == 1
    assert Lexicographic(("latency",))(them) == 2


def test_weights_sum_ratios() -> None:
    them = [{"macs": 0.5, "latency": 0.9}, {"macs": 0.6, "latency": 0.7}]
    assert Weights({"macs": 1, "latency": 1})(them) == 1
    assert Weights({"macs": 3, "latency": 1})(them) == 0
    assert Weights({"macs": 1, "energy": 0})(them) == 0, "a weight of zero asks for no reading"


@given(
    points.filter(bool),
    st.sampled_from([Lexicographic(NAMES), Weights({"macs": 1, "latency": 2, "energy": 0.5, "parameters": 1})]),
)
def test_a_full_preference_takes_a_point_of_the_front(
    them: list[dict[str, float]], preferred: Lexicographic | Weights
) -> None:
    assert preferred(them) in front(them, NAMES)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("macs,latency,energy", Lexicographic()),
        (" latency ", Lexicographic(("latency",))),
        (["energy", "macs"], Lexicographic(("energy", "macs"))),
        ("macs=1, latency=2", Weights({"macs": 1.0, "latency": 2.0})),
        ({"energy": 0.5}, Weights({"energy": 0.5})),
    ],
)
def test_preferences_are_read_and_written(spec: object, expected: object) -> None:
    assert preference(spec) == expected  # type: ignore[arg-type]
    assert preference(str(expected)) == expected


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("latancy", "did you mean 'latency'"),
        ("", "at least one"),
        ("macs,macs", "once"),
        ("macs=1,latency", "name=number"),
        ("macs=one", "name=number"),
        ("macs=-1", "not below 0"),
        ("macs=nan", "not below 0"),
        ("macs=0", "above 0"),
        ({}, "at least one"),
    ],
)
def test_what_is_no_preference_is_told(spec: object, says: str) -> None:
    with pytest.raises(SecateursError, match=says):
        preference(spec)  # type: ignore[arg-type]
