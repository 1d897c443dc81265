"""Two models' latencies side by side: random-interleaved pairs, with a control that must come out equal.

Timing one model after the other measures the machine's mood as well. Here each round times the baseline, a copy of the
baseline and the model, in random order, so that what disturbs one disturbs all; the ratio is the exponential of the
median log-ratio over the rounds, with its bootstrap interval. The copy is the control: a method that finds a model
faster than itself finds nothing.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from secateurs.measures.instruments.clock import Clock, Lap, Stopwatch, deciding, named
from secateurs.measures.instruments.forward import device_of, inference, threads
from secateurs.measures.instruments.intervals import median_interval
from secateurs.measures.instruments.progress import Pulse
from secateurs.types import Inputs, Reading, SecateursError

log = logging.getLogger("secateurs.measures")

Verdict = Literal["faster", "slower", "inconclusive"]

FEWEST = 10
"""Rounds before an interval is believed, and taken whatever the budget."""

CONTROL_TOLERANCE = 0.02
"""How far the control's interval may lie from 1: two copies of a model do not lie alike in memory."""


@dataclass(frozen=True)
class Pairs:
    """How a comparison is run.

    Args:
        batch_size: Repeat or cut the inputs to this size; None leaves them.
        threads: Of torch's CPU operators. With more than one the wall clock decides, which needs a quiet machine.
        half_width: Stop when the intervals of ratio and control reach no further than this to either side, relative.
        max_seconds: Stop after this long, but not before 10 rounds.
        max_pairs: Stop after this many rounds.
        seed: Of the order within rounds and of the resampling.

    Raises:
        SecateursError: A number out of range.
    """

    batch_size: int | None = None
    threads: int = 1
    half_width: float = 0.02
    max_seconds: float = 60.0
    max_pairs: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.half_width > 0 or not self.max_seconds > 0:
            raise SecateursError("half_width and max_seconds of a comparison must be above 0")
        if self.max_pairs < FEWEST:
            raise SecateursError(f"max_pairs is {self.max_pairs}: an interval needs at least {FEWEST} pairs")


@dataclass(frozen=True)
class Ratio:
    """What a comparison found.

    Args:
        ratio: Seconds of the model over seconds of the baseline, on the clock that decides; below 1 is faster.
        control: Seconds of a copy of the baseline over seconds of the baseline, in the same rounds.
        wall: The ratio on the wall clock.
        baseline: Seconds per forward pass of the baseline, on the clock that decides.
        model: The same of the model.
        pairs: Rounds taken.
        verdict: ``inconclusive`` where the ratio's interval holds 1, where the control's does not (to 2 %), or where
            the two intervals overlap.
    """

    ratio: Reading
    control: Reading
    wall: Reading
    baseline: Reading
    model: Reading
    pairs: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class _Median:
    """A median over rounds and its interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return max(self.high - self.value, self.value - self.low) / self.value


def ratio(baseline: nn.Module, model: nn.Module, inputs: Inputs, pairs: Pairs | None = None) -> Ratio:
    """Compare the latency of a model with that of a baseline.

    Args:
        baseline: Copied once for the control; neither model is changed.
        model: On the same device.
        inputs: One batch that both accept.
        pairs: How to run it; None: the defaults.

    Raises:
        SecateursError: The models lie on different devices, the baseline cannot be copied, or a forward pass fails.
    """
    settings = pairs or Pairs()
    device = device_of(baseline)
    if device_of(model) != device:
        raise SecateursError(f"the baseline lies on {device} and the model on {device_of(model)}: move one")
    clock = deciding(device, settings.threads)
    trio = (baseline, _copied(baseline), model)
    with threads(settings.threads), inference(*trio):
        watches = tuple(Stopwatch(each, inputs, settings.batch_size) for each in trio)
        # The first call of a sample finds cold caches: with unequal numbers of calls its share would differ.
        calls = max(watch.calls for watch in watches)
        for watch in watches:
            watch.calls = calls
        laps = _interleaved(watches, clock, settings)
    return _found(laps, clock, named(clock, device, settings.threads), settings)


def _copied(model: nn.Module) -> nn.Module:
    held = (value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor))
    computed = {id(tensor): tensor.detach() for tensor in held if not tensor.is_leaf}  # as the older weight norm holds
    try:
        return copy.deepcopy(model, computed)
    except Exception as error:
        raise SecateursError(f"the baseline cannot be copied for the control: {error}") from error


def _interleaved(watches: tuple[Stopwatch, ...], clock: Clock, settings: Pairs) -> list[list[Lap]]:
    """Rounds of one lap each, in random order: ``laps[round][model]``."""
    order = np.random.default_rng(settings.seed)
    laps: list[list[Lap]] = []
    pulse, began, look = Pulse(log), time.perf_counter(), FEWEST
    while len(laps) < settings.max_pairs:
        row: dict[int, Lap] = {int(i): watches[i].lap() for i in order.permutation(len(watches))}
        laps.append([row[i] for i in range(len(watches))])
        pulse.say("latency: %d rounds", len(laps))
        if len(laps) < look:
            continue
        if time.perf_counter() - began > settings.max_seconds or _narrow(laps, clock, settings):
            break
        look = min(len(laps) + max(1, len(laps) // 10), settings.max_pairs)
    return laps


def _seconds(laps: list[list[Lap]], clock: Clock) -> NDArray[np.float64]:
    """``(rounds, models)``; a clock too coarse for a lap gives its smallest step."""
    return np.maximum([[getattr(lap, clock) for lap in row] for row in laps], 1e-9)


def _over_baseline(seconds: NDArray[np.float64], which: int, seed: int) -> _Median:
    logs = np.log(seconds[:, which] / seconds[:, 0])
    low, high = median_interval(logs, seed)
    return _Median(math.exp(np.median(logs)), math.exp(low), math.exp(high))


def _narrow(laps: list[list[Lap]], clock: Clock, settings: Pairs) -> bool:
    seconds = _seconds(laps, clock)
    return all(_over_baseline(seconds, i, settings.seed).half_width <= settings.half_width for i in (1, 2))


def _found(laps: list[list[Lap]], clock: Clock, source: str, settings: Pairs) -> Ratio:
    seconds, n = _seconds(laps, clock), len(laps)
    control, found = (_over_baseline(seconds, i, settings.seed) for i in (1, 2))
    wall = _over_baseline(_seconds(laps, "wall"), 2, settings.seed)
    verdict, why = judged(found, control)
    wide = None if found.half_width <= settings.half_width else f"wider than ±{settings.half_width:.0%}"
    note = "; ".join(filter(None, (why, wide))) or None

    def reading(measure: str, median: _Median, source: str, note: str | None = None) -> Reading:
        unit = "s" if measure == "latency" else "1"
        return Reading(measure, median.value, unit, "measured", (median.low, median.high), source, n, note)

    def absolute(which: int) -> Reading:
        column = seconds[:, which]
        return reading("latency", _Median(float(np.median(column)), *median_interval(column, settings.seed)), source)

    return Ratio(
        ratio=reading("latency_ratio", found, source, note),
        control=reading("latency_control", control, source),
        wall=reading("latency_ratio_wall", wall, "wall clock"),
        baseline=absolute(0),
        model=absolute(2),
        pairs=n,
        verdict=verdict,
    )


def judged(found: _Median, control: _Median) -> tuple[Verdict, str | None]:
    """The verdict, and why there is none.

    Args:
        found: The ratio.
        control: The ratio of the baseline's copy.
    """
    if control.low > 1 + CONTROL_TOLERANCE or control.high < 1 - CONTROL_TOLERANCE:
        return "inconclusive", f"inconclusive: the baseline against itself gives {control.value:.3f}"
    if found.high < min(1.0, control.low):
        return "faster", None
    if found.low > max(1.0, control.high):
        return "slower", None
    return "inconclusive", "inconclusive: no more than the baseline differs from itself"
