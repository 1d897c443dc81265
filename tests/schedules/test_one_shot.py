from __future__ import annotations

from secateurs.schedules.one_shot import OneShot


def test_goes_straight_to_the_target() -> None:
    assert OneShot()(0.7) == (0.7,)
    assert OneShot()(0.7, start=0.3) == (0.7,)
