from __future__ import annotations

import numpy as np
import pytest

from secateurs.measures.instruments.intervals import median_interval, pairs_interval, wilson
from secateurs.types import SecateursError


def test_wilson_by_hand():
    z = 1.959964
    centre, spread = (5 + z * z / 2) / (20 + z * z), z / (20 + z * z) * np.sqrt(5 * 15 / 20 + z * z / 4)
    assert wilson(5, 20) == pytest.approx((centre - spread, centre + spread), rel=1e-5)
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == 1.0
    with pytest.raises(SecateursError, match="at least one trial"):
        wilson(0, 0)


def test_median_interval_covers_as_often_as_it_says():
    draws = np.random.default_rng(0)
    covered = sum(low <= 1.0 <= high for low, high in (median_interval(draws.normal(1, 2, 40), s) for s in range(300)))
    assert 0.90 <= covered / 300 <= 0.99


def test_median_interval_is_of_the_values_and_repeats():
    values = np.array([3.0, 1.0, 2.0, 50.0, 2.5])
    low, high = median_interval(values, seed=3)
    assert 1.0 <= low <= 2.5 <= high <= 50.0
    assert (low, high) == median_interval(values, seed=3)
    assert median_interval(np.array([4.0]), seed=0) == (4.0, 4.0)


def test_pairs_interval_of_a_fraction_is_binomial():
    low, high = pairs_interval(lambda counts: counts[0] / counts.sum(), np.array([300, 700]), resamples=2000)
    assert (low, high) == pytest.approx((0.3 - 0.0284, 0.3 + 0.0284), abs=0.004)
