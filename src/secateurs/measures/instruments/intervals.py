"""Intervals of 95 %: how far a number could be off by the luck of the draw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from secateurs.types import SecateursError

_TAILS = (0.025, 0.975)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The score interval of a fraction (Wilson 1927); right near 0 and 1 and for few trials.

    Args:
        successes: Of ``trials``.
        trials: At least 1.

    Raises:
        SecateursError: No trials.
    """
    from scipy.stats import binomtest

    if trials < 1:
        raise SecateursError("an interval of a fraction needs at least one trial")
    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def median_interval(values: NDArray[np.float64], seed: int, resamples: int = 1000) -> tuple[float, float]:
    """The bootstrap interval of the median, by percentiles (Efron 1979).

    Args:
        values: ``(n,)``, at least one.
        seed: Of the resampling.
        resamples: How many.
    """
    draws = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    low, high = np.quantile(np.median(values[draws], axis=1), _TAILS)
    return float(low), float(high)


def pairs_interval(
    statistic: Callable[[NDArray[np.int64]], float], counts: NDArray[np.int64], seed: int = 0, resamples: int = 300
) -> tuple[float, float]:
    """The bootstrap interval of a statistic of (predicted, true) pairs, by percentiles.

    Drawing n examples with replacement draws the counts of the distinct pairs from a multinomial distribution, so each
    resample costs the number of distinct pairs, not of examples.

    Args:
        statistic: Counts of the distinct pairs -> value.
        counts: How often each distinct pair was seen.
        seed: Of the resampling.
        resamples: How many.
    """
    low, high = np.quantile(_resampled(statistic, counts, seed, resamples), _TAILS)
    return float(low), float(high)


def lower_limit(
    statistic: Callable[[NDArray[np.int64]], float],
    counts: NDArray[np.int64],
    confidence: float,
    resamples: int = 1000,
) -> float:
    """The value that a statistic lies above with this confidence: one end of its bootstrap interval, by percentiles.

    Args:
        statistic: Counts of the distinct cells -> value.
        counts: How often each distinct cell was seen.
        confidence: One-sided, in (0, 1).
        resamples: How many.
    """
    return float(np.quantile(_resampled(statistic, counts, 0, resamples), 1 - confidence))


def _resampled(
    statistic: Callable[[NDArray[np.int64]], float], counts: NDArray[np.int64], seed: int, resamples: int
) -> list[float]:
    total = int(counts.sum())
    draws = np.random.default_rng(seed).multinomial(total, counts / total, resamples)
    return [statistic(draw) for draw in draws]
