from __future__ import annotations

import itertools

import pytest

from secateurs.schedules.exponential import Exponential
from secateurs.types import SecateursError


def test_every_round_removes_the_same_share_of_what_is_left() -> None:
    assert Exponential(rounds=3)(1 - 0.8**3) == pytest.approx((0.2, 0.36, 0.488))  # 20 % a round


def test_from_a_start() -> None:
    kept = [1 - s for s in (0.2, *Exponential(rounds=3)(0.9, start=0.2))]
    rates = [after / before for before, after in itertools.pairwise(kept)]
    assert rates == pytest.approx([rates[0]] * 3)
    assert kept[-1] == pytest.approx(0.1)


def test_no_rounds_are_refused() -> None:
    with pytest.raises(SecateursError, match="exponential: rounds must be at least 1, got 0"):
        Exponential(rounds=0)
