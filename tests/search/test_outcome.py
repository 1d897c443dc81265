"""What is added up, and what is not."""

from __future__ import annotations

import pytest

from secateurs.search import Configuration
from secateurs.search.outcome import Choice, _spent
from secateurs.types import Reading


def spent(*readings: Reading | None) -> Reading | None:
    return _spent(tuple(Configuration(i, 0.1, True, i, spent=one) for i, one in enumerate(readings, start=1)))


def joules(value: float, source: str = "rapl") -> Reading:
    return Reading("search_energy", value, "J", "measured", source=source)


def test_joules_of_one_meter_are_added_up() -> None:
    total = spent(joules(1.5), joules(2.0))
    assert total is not None and total.value == pytest.approx(3.5) and total.source == "rapl"


@pytest.mark.parametrize("them", [(joules(1), None), (joules(1), joules(1, "nvml")), (None,)])
def test_joules_that_are_missing_or_of_two_meters_are_not(them: tuple[Reading | None, ...]) -> None:
    assert spent(*them) is None


def test_the_number_of_a_choice() -> None:
    one = Configuration(4, 0.2, True, 4)
    assert Choice((one,), (one,), one).number == 4
    assert Choice((one,), (), None).number == 0
