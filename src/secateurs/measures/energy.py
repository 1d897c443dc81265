"""Energy: joules of one forward pass, from a meter read over a window of seconds."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from secateurs.measures.instruments.clock import synchronise
from secateurs.measures.instruments.forward import call, device_of, inference, prepared, threads
from secateurs.measures.instruments.meters import Meter, Window, open_meter
from secateurs.measures.instruments.progress import Pulse
from secateurs.types import Inputs, Reading, SecateursError, Task

log = logging.getLogger("secateurs.measures")

ROUNDS = 2
"""Windows of each model in a comparison, in turns, so that a drift of the machine meets both."""


@dataclass(frozen=True)
class Energy:
    """Joules per forward pass, idle power included.

    Args:
        batch_size: Repeat or cut the inputs to this size; None leaves them.
        threads: Of torch's CPU operators.
        seconds: Length of the window; a counter moves about ten times a second.

    Raises:
        SecateursError: A number out of range; on the call: no meter reads this machine, or the forward pass fails.
    """

    batch_size: int | None = None
    threads: int = 1
    seconds: float = 5.0
    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise SecateursError(f"seconds of energy is {self.seconds}: give a window above 0")

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        (reading,) = self._read([model], task.example_inputs, 1)
        return reading

    def both(self, baseline: nn.Module, model: nn.Module, inputs: Inputs) -> tuple[Reading, Reading]:
        """Read two models with one meter, in alternating windows that together last ``seconds`` for each.

        Args:
            baseline: On the same device as the model.
            model: The one compared with it.
            inputs: One batch that both accept.

        Raises:
            SecateursError: As on the call, and where the models lie on different devices.
        """
        if device_of(baseline) != device_of(model):
            raise SecateursError(f"baseline and model lie on {device_of(baseline)} and {device_of(model)}: move one")
        first, second = self._read([baseline, model], inputs, ROUNDS)
        return first, second

    def _read(self, models: list[nn.Module], inputs: Inputs, rounds: int) -> list[Reading]:
        device = device_of(models[0])
        meter = open_meter(device)
        if meter.source is None:
            raise SecateursError(f"energy cannot be read: {meter.missing}; pip install 'secateurs[energy]'")
        batch = prepared(inputs, device, self.batch_size)
        totals = [_Total() for _ in models]
        with threads(self.threads), inference(*models):
            for _ in range(rounds):
                for model, total in zip(models, totals, strict=True):
                    _work(model, batch, meter, total, self.seconds / rounds)
        return [total.reading(meter) for total in totals]


@dataclass
class _Total:
    """What the windows of one model add up to."""

    joules: float = 0.0
    seconds: float = 0.0
    passes: int = 0

    def add(self, window: Window, passes: int, meter: Meter) -> None:
        if window.joules is None:
            raise SecateursError(f"the meter {meter.source} failed in the middle of a measurement: try again")
        self.joules += window.joules
        self.seconds += window.seconds
        self.passes += passes

    def reading(self, meter: Meter) -> Reading:
        note = f"{meter.scope}; {self.passes} forward passes in {self.seconds:.1f} s"
        value = self.joules / self.passes
        return Reading("energy", value, "J", meter.how, source=meter.source, samples=self.passes, note=note)


def _work(model: nn.Module, inputs: Inputs, meter: Meter, total: _Total, seconds: float) -> None:
    """Warm up, then repeat the forward pass through one window; a GPU is waited for now and then, not at each."""
    pulse, passes, pause = Pulse(log), 0, 0.1
    try:
        call(model, inputs)
        with meter.window() as window:
            began = look = time.perf_counter()
            while time.perf_counter() - began < seconds:
                call(model, inputs)
                passes += 1
                if time.perf_counter() - look > pause:
                    synchronise(meter.device)
                    look = time.perf_counter()
                pulse.say("energy: %d forward passes", passes)
    except Exception as error:
        raise SecateursError(f"the model fails on the example inputs: {error}") from error
    total.add(window, passes, meter)
