"""Seconds per forward pass, on the wall clock, on the processor's clock, and on the GPU's own."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from secateurs.measures.instruments.forward import call, device_of, prepared
from secateurs.types import Inputs, SecateursError

Clock = Literal["cpu", "wall", "cuda"]

SHORTEST_SAMPLE = 2e-3
"""Seconds one sample lasts at least: a faster forward pass is repeated, so that the clock's own cost disappears."""

WARM_UP_CALLS = 3
WARM_UP_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Lap:
    """Seconds per forward pass of one sample, by clock.

    Args:
        wall: Time that passed.
        cpu: Time that all threads of this process spent computing.
        cuda: Time between two events on the GPU's stream; NaN on other devices.
    """

    wall: float
    cpu: float
    cuda: float = math.nan


class Stopwatch:
    """Takes samples of a model's forward pass. To be used inside ``inference``.

    Warms up on creation, and finds how many ``calls`` a sample needs to last ``SHORTEST_SAMPLE``.

    Args:
        model: In evaluation mode.
        inputs: One batch; moved to the model's device.
        batch_size: Repeat or cut the batch to this size; None leaves it.

    Raises:
        SecateursError: The forward pass fails.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, batch_size: int | None = None) -> None:
        self.device = device_of(model)
        self._model = model
        self._inputs = prepared(inputs, self.device, batch_size)
        self.calls = 1
        fastest, began, laps = math.inf, time.perf_counter(), 0
        while laps < WARM_UP_CALLS or time.perf_counter() - began < WARM_UP_SECONDS:
            try:
                fastest = min(fastest, self.lap().wall)
            except Exception as error:
                raise SecateursError(f"the model fails on the example inputs: {error}") from error
            laps += 1
        self.calls = max(1, math.ceil(SHORTEST_SAMPLE / max(fastest, 1e-7)))

    @property
    def clock(self) -> Clock:
        """The clock that a single model is read on: what a user waits for."""
        return "cuda" if self.device.type == "cuda" else "wall"

    def lap(self) -> Lap:
        """Take one sample."""
        cuda = self.device.type == "cuda"
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2 * cuda)]  # type: ignore[no-untyped-call]
        synchronise(self.device)
        wall, cpu = time.perf_counter(), time.process_time()
        if cuda:
            events[0].record(torch.cuda.current_stream(self.device))
        for _ in range(self.calls):
            call(self._model, self._inputs)
        if cuda:
            events[1].record(torch.cuda.current_stream(self.device))
        synchronise(self.device)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        on_device = events[0].elapsed_time(events[1]) / 1e3 if cuda else math.nan
        return Lap(wall / self.calls, cpu / self.calls, on_device / self.calls)


def synchronise(device: torch.device) -> None:
    """Wait for the device to finish what it was given; nothing on the CPU."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def deciding(device: torch.device, threads: int) -> Clock:
    """The clock that compares two models best.

    One thread on the CPU: the processor's, which other programs on the machine disturb least. Several threads spin
    while they wait, so there it is the wall clock's. On a GPU: its own.

    Args:
        device: Where the models lie.
        threads: How many threads torch's operators run on.
    """
    if device.type == "cuda":
        return "cuda"
    return "cpu" if device.type == "cpu" and threads == 1 else "wall"


def named(clock: Clock, device: torch.device, threads: int) -> str:
    """The instrument, for a reading's source.

    Args:
        clock: The clock read.
        device: Where the model lies.
        threads: How many threads torch's operators run on.
    """
    words = {"cpu": "process CPU time", "wall": "wall clock", "cuda": "CUDA events"}[clock]
    return f"{words}, {device.type}, {threads} thread{'s' * (threads > 1)}"
