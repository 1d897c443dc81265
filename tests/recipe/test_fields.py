from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from secateurs.recipe.fields import brief, build, check_names, fit, unknown
from secateurs.types import SecateursError


@dataclass(frozen=True)
class Spade:
    depth: int
    blade: Literal["round", "square", 3] = "round"
    length: float = 1.0
    sharp: bool = True
    rows: tuple[str, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    owner: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    made: str = field(default="here", init=False)

    def __post_init__(self) -> None:
        if self.depth < 0:
            raise ValueError("depth below the ground")


def test_values_become_what_the_annotations_say() -> None:
    made = build(Spade, "spade", {"depth": 2, "length": 3, "rows": ["a", "b"], "pair": [4, 5], "owner": None})
    assert made == Spade(2, length=3.0, rows=("a", "b"), pair=(4, 5.0))
    assert isinstance(made.length, float)
    assert isinstance(made.pair[1], float)
    assert build(Spade, "spade", {"depth": 2, "blade": 3, "owner": "me", "notes": {"x": [1]}}).owner == "me"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"depth": "two"}, "spade: depth must be an int, got 'two'"),
        ({"depth": True}, "spade: depth must be an int, got True"),
        ({"depth": 2.0}, "spade: depth must be an int, got 2.0"),
        ({"depth": 1, "length": "long"}, "spade: length must be a float, got 'long'"),
        ({"depth": 1, "length": False}, "spade: length must be a float, got False"),
        ({"depth": 1, "sharp": 1}, "spade: sharp must be a bool, got 1"),
        ({"depth": 1, "blade": "oval"}, "spade: blade must be one of round, square, 3, got 'oval'"),
        ({"depth": 1, "blade": 3.0}, "spade: blade must be one of round, square, 3, got 3.0"),
        ({"depth": 1, "rows": "ab"}, "spade: rows must be a list of str, got 'ab'"),
        ({"depth": 1, "rows": [1]}, "spade: rows must be a list of str, got [1]"),
        ({"depth": 1, "pair": [1]}, "spade: pair must be a list of int and float, got [1]"),
        ({"depth": 1, "owner": 7}, "spade: owner must be a str or null, got 7"),
        ({"depth": 1, "notes": 7}, "spade: notes must be a Mapping, got 7"),
        ({}, "spade: field 'depth' is missing"),
        ({"dept": 1}, "spade: unknown field 'dept'; did you mean 'depth'?"),
        ({"depth": 1, "made": "there"}, "spade: unknown field 'made'"),
        (
            {"depth": 1, "zzz": 1},
            "spade: unknown field 'zzz'; there is depth, blade, length, sharp, rows, pair, owner,",
        ),
        ({"depth": -1}, "spade: depth below the ground"),
    ],
)
def test_what_does_not_fit_is_named(values: dict[str, Any], line: str) -> None:
    with pytest.raises(SecateursError) as caught:
        build(Spade, "spade", values)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_anything_fits_any() -> None:
    assert fit("spade", "x", [1], Any) == [1]


def test_names_without_fields() -> None:
    check_names("spade", "field", {}, ())
    with pytest.raises(SecateursError, match="spade: unknown field 'x'; there is none"):
        check_names("spade", "field", {"x": 1}, ())


def test_unknown_and_brief() -> None:
    assert unknown("part", "wonda", ("wanda", "taylor")) == "unknown part 'wonda'; did you mean 'wanda'?"
    assert unknown("part", "zzz", ("wanda", "taylor")) == "unknown part 'zzz'; there is wanda, taylor"
    assert brief("a" * 100) == "'" + "a" * 56 + "..."
