"""Energy of this process by a model of the processor: codecarbon, offline.

No counter is read: the processor's rated power times the share of its cores that this process kept busy, plus a
constant for memory by the size of the process. Published comparisons put such models off by up to 40 %.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from secateurs.types import How

log = logging.getLogger("secateurs.measures")

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class LoadModel:
    """codecarbon's model of the work of this process and its children; reaches no network and writes no file."""

    name: ClassVar[str] = "codecarbon"
    how: ClassVar[How] = "modelled"

    @property
    def scope(self) -> str:
        return "modelled: rated processor power by this process's CPU time, and a constant for its memory; no counter"

    @classmethod
    def open(cls) -> LoadModel | None:
        """The model, its slow look at the hardware done; None where codecarbon is missing or does not work."""
        model = cls()
        try:
            model.start()()
        except Exception as error:  # whatever it is, there is no meter then
            log.debug("codecarbon cannot be used: %s", error)
            return None
        return model

    def start(self) -> Callable[[], float | None]:
        """Begin a task of codecarbon's; the function returned ends it and gives the joules of processor and memory."""
        tracker = _tracker()
        tracker.start_task()

        def stop() -> float | None:
            task = tracker.stop_task()
            return None if task is None else float(task.cpu_energy + task.ram_energy) * JOULES_PER_KWH

        return stop


def _tracker() -> Any:
    """A tracker that asks nobody: a country and a carbon intensity are given, no output and no GPU.

    codecarbon remembers the hardware for the life of the process, so all but the first are quick.
    """
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.external.logger import set_logger_level

    set_logger_level("critical")
    return OfflineEmissionsTracker(
        country_iso_code="FRA",
        force_carbon_intensity_g_co2e_kwh=1.0,
        tracking_mode="process",
        force_mode_cpu_load=True,
        output_methods=[],
        emissions_endpoint=None,
        gpu_ids=[],
        measure_power_secs=3600,
        allow_multiple_runs=True,
        log_level="critical",
    )
