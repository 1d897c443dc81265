"""Latency: the median seconds of one forward pass on the example inputs, with its bootstrap interval."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import nn

from secateurs.measures.instruments.clock import Stopwatch, named
from secateurs.measures.instruments.forward import inference, threads
from secateurs.measures.instruments.intervals import median_interval
from secateurs.measures.instruments.progress import Pulse
from secateurs.types import Reading, SecateursError, Task

log = logging.getLogger("secateurs.measures")

FEWEST = 10


@dataclass(frozen=True)
class Latency:
    """Seconds per forward pass by the wall clock (on a GPU by its events). Models are compared by ``pairs.ratio``.

    Args:
        batch_size: Repeat or cut the inputs to this size; None leaves them.
        threads: Of torch's CPU operators.
        half_width: Stop when the interval reaches no further than this to either side, relative.
        max_seconds: Stop after this long, but not before 10 samples.
        seed: Of the resampling.

    Raises:
        SecateursError: A number out of range; on the call: the forward pass fails on the example inputs.
    """

    batch_size: int | None = None
    threads: int = 1
    half_width: float = 0.02
    max_seconds: float = 10.0
    seed: int = 0
    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.half_width > 0 or not self.max_seconds > 0:
            raise SecateursError("half_width and max_seconds of latency must be above 0")

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        with threads(self.threads), inference(model):
            watch = Stopwatch(model, task.example_inputs, self.batch_size)
            seconds, (low, high) = self._sampled(watch)
        value = float(np.median(seconds))
        wide = max(high - value, value - low) > self.half_width * value
        note = f"interval wider than ±{self.half_width:.0%}" if wide else None
        source = named(watch.clock, watch.device, self.threads)
        return Reading("latency", value, "s", "measured", (low, high), source, len(seconds), note)

    def _sampled(self, watch: Stopwatch) -> tuple[list[float], tuple[float, float]]:
        seconds: list[float] = []
        pulse, began, look = Pulse(log), time.perf_counter(), FEWEST
        while True:
            seconds.append(getattr(watch.lap(), watch.clock))
            pulse.say("latency: %d samples", len(seconds))
            if len(seconds) < look:
                continue
            look = len(seconds) + max(1, len(seconds) // 10)
            low, high = median_interval(np.array(seconds), self.seed)
            if high - low <= 2 * self.half_width * low or time.perf_counter() - began > self.max_seconds:
                return seconds, (low, high)
