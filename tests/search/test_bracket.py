"""The next p, for every way in which a network may hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateurs.search.bracket import Bracket


def walk(
    holds: Callable[[float, float], bool], start: float = 0.3, tolerance: float = 0.02, most: float = 1.0
) -> list[tuple[float, bool]]:
    """Every p and whether it held; ``holds(p, low)``."""
    bracket, trail = Bracket(start, tolerance, most=most), []
    while (p := bracket.next) is not None:
        assert 0 < p < 1
        trail.append((p, holds(p, bracket.low)))
        bracket = bracket.narrowed(*trail[-1])
        assert len(trail) < 500, "no end"
    return trail


def test_it_starts_where_it_is_told() -> None:
    assert walk(lambda p, low: False, start=0.3)[0][0] == 0.3
    assert walk(lambda p, low: False, start=0.9)[0][0] == 0.9


def test_backs_off_by_halves_when_nothing_holds() -> None:
    assert [p for p, _ in walk(lambda p, low: False)] == [0.3, 0.15, 0.075, 0.0375, 0.01875]


def test_goes_on_while_it_holds() -> None:
    tried = [p for p, _ in walk(lambda p, low: True)]
    assert tried[:3] == [0.3, 0.6, 0.9]
    assert tried == sorted(tried) and tried[-1] > 0.98


def test_what_failed_in_one_step_is_tried_in_two() -> None:
    trail = walk(lambda p, low: p - low < 0.2 and p < 0.5)
    assert trail[:3] == [(0.3, False), (0.15, True), (0.3, True)]
    assert max(p for p, held in trail if held) > 0.46


@pytest.mark.parametrize("most", [0.005, 0.2, 0.4, 0.97])
def test_the_most_that_can_go_is_tried_and_nothing_beyond_it(most: float) -> None:
    tried = [p for p, _ in walk(lambda p, low: True, most=most)]
    assert tried[-1] == most == max(tried) and len(set(tried)) == len(tried)
    assert max(p for p, _ in walk(lambda p, low: p < 0.19, most=most)) <= most


@given(limit=st.floats(0.0, 1.0), start=st.floats(0.01, 0.99), tolerance=st.floats(0.002, 0.3))
def test_finds_the_limit_to_the_tolerance(limit: float, start: float, tolerance: float) -> None:
    trail = walk(lambda p, low: p <= limit, start, tolerance)
    best = max((p for p, held in trail if held), default=0.0)
    assert best <= limit
    assert limit - best < tolerance + 1e-5


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_ends_and_never_goes_below_what_held(verdicts: list[bool]) -> None:
    bracket = Bracket(0.3, 0.02)
    for verdict in verdicts:
        if (p := bracket.next) is None:
            break
        assert bracket.low < p < 1
        bracket = bracket.narrowed(p, verdict)


@pytest.mark.parametrize("tolerance", [0.5, 0.05])
def test_number_of_evaluations_is_small(tolerance: float) -> None:
    assert len(walk(lambda p, low: p < 0.45, tolerance=tolerance)) <= 9
