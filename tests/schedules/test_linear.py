from __future__ import annotations

import pytest

from secateurs.schedules.linear import Linear
from secateurs.types import SecateursError


def test_jumps_then_climbs_in_equal_steps() -> None:
    assert Linear(rounds=3, jump=0.5)(0.8) == pytest.approx((0.4, 0.6, 0.8))
    assert Linear(rounds=3, jump=0.5)(0.8, start=0.4) == pytest.approx((0.6, 0.7, 0.8))
    assert Linear(rounds=2, jump=0.9)(0.5) == pytest.approx((0.45, 0.5))


def test_without_a_jump_all_steps_are_equal() -> None:
    assert Linear(rounds=4, jump=0.0)(0.8) == pytest.approx((0.2, 0.4, 0.6, 0.8))
    assert Linear(rounds=1, jump=0.0)(0.8) == (0.8,)


@pytest.mark.parametrize(
    ("rounds", "jump", "message"),
    [(1, 0.5, "rounds must be at least 2"), (0, 0.0, "rounds must be at least 1"), (3, 1.0, "jump must be in")],
)
def test_bad_fields_are_refused(rounds: int, jump: float, message: str) -> None:
    with pytest.raises(SecateursError, match=f"linear: {message}"):
        Linear(rounds=rounds, jump=jump)
