from __future__ import annotations

import itertools

import pytest

from secateurs.schedules.cubic import Cubic
from secateurs.types import SecateursError


def test_formula() -> None:
    assert Cubic(rounds=2)(0.8) == pytest.approx((0.8 * (1 - 0.5**3), 0.8))
    assert Cubic(rounds=2)(0.8, start=0.4) == pytest.approx((0.8 - 0.4 * 0.5**3, 0.8))


def test_steps_get_smaller() -> None:
    levels = (0.0, *Cubic(rounds=6)(0.9))
    steps = [b - a for a, b in itertools.pairwise(levels)]
    assert steps == sorted(steps, reverse=True)


def test_no_rounds_are_refused() -> None:
    with pytest.raises(SecateursError, match="cubic: rounds must be at least 1, got 0"):
        Cubic(rounds=0)
