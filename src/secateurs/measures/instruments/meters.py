"""Meters of energy: the best that reads this machine, opened once and asked for the joules of any stretch of work.

The GPU's own counter (NVML), the processor's own counters (RAPL), else a model of the processor (codecarbon): each says
which it is, and no two are ever added up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

import torch

from secateurs.measures.instruments.clock import synchronise
from secateurs.types import How

log = logging.getLogger("secateurs.measures")

T = TypeVar("T")


@dataclass
class Window:
    """One stretch of work; the numbers are there once it is over.

    Args:
        joules: Energy used, idle power included; None where nothing could read it.
        seconds: How long it lasted.
    """

    joules: float | None = None
    seconds: float = 0.0


class Source(Protocol):
    """An instrument: what it is, what is in its numbers, and how to start it."""

    name: ClassVar[str]
    how: ClassVar[How]

    @property
    def scope(self) -> str:
        """What is in the number, in one line."""
        ...

    def start(self) -> Callable[[], float | None]:
        """Begin a stretch; the function returned ends it and gives its joules."""
        ...


@dataclass(frozen=True)
class Meter:
    """A source of joules for one device, or none.

    Args:
        device: Whose work is measured; it is waited for at both ends of a window.
        instrument: What is read; None where nothing can be.
        missing: Why nothing can be, and the mend.
    """

    device: torch.device
    instrument: Source | None
    missing: str | None = None

    @property
    def source(self) -> str | None:
        """Name of the instrument: ``nvml``, ``rapl``, ``codecarbon``; None where there is none."""
        return self.instrument.name if self.instrument else None

    @property
    def how(self) -> How:
        """``measured`` by a counter or ``modelled``."""
        return self.instrument.how if self.instrument else "measured"

    @property
    def scope(self) -> str:
        """What is in the number, in one line."""
        return self.instrument.scope if self.instrument else "nothing"

    @contextmanager
    def window(self) -> Iterator[Window]:
        """Measure the work done inside; windows may lie within each other. A meter that fails gives no joules."""
        window = Window()
        synchronise(self.device)
        stop = _attempt(self.instrument.start) if self.instrument else None
        began = time.perf_counter()
        try:
            yield window
        finally:
            synchronise(self.device)
            window.seconds = time.perf_counter() - began
            window.joules = _attempt(stop) if stop else None


def _attempt(read: Callable[[], T]) -> T | None:
    """A meter must not end the work it measures."""
    try:
        return read()
    except Exception as error:
        log.warning("the energy meter failed: %s", error)
        return None


def open_meter(device: torch.device | str = "cpu") -> Meter:
    """The best meter for a device. Never raises: where nothing reads this machine, joules come out as None.

    Args:
        device: Where the work is done. A GPU is read by NVML alone; the CPU by RAPL, else by codecarbon's model.
    """
    device = torch.device(device)
    if device.type == "cuda":
        from secateurs.measures.instruments.nvml import Nvml

        gpu = Nvml.open(device)
        return Meter(device, gpu, None if gpu else "NVML gives no energy counter for this GPU; it needs nvidia-ml-py")
    from secateurs.measures.instruments.load_model import LoadModel
    from secateurs.measures.instruments.rapl import Rapl

    if device.type != "cpu":
        return Meter(device, None, f"no energy meter is known for {device.type}")
    found: Source | None = Rapl.open() or LoadModel.open()
    missing = "no counter can be read here, and codecarbon (3.3 or later) is missing"
    return Meter(device, found, None if found else missing)
