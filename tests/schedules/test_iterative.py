from __future__ import annotations

import pytest

from secateurs.schedules.iterative import Iterative
from secateurs.types import SecateursError


def test_steps_are_equal() -> None:
    assert Iterative(rounds=4)(0.8) == pytest.approx((0.2, 0.4, 0.6, 0.8))
    assert Iterative(rounds=2)(0.5, start=0.3) == pytest.approx((0.4, 0.5))


def test_no_rounds_are_refused() -> None:
    with pytest.raises(SecateursError, match="iterative: rounds must be at least 1, got 0"):
        Iterative(rounds=0)
