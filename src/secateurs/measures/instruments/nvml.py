"""Energy of a GPU by its own counter: NVML's total energy consumption, in millijoules since the driver was loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from secateurs.types import How


@dataclass(frozen=True)
class Nvml:
    """The energy counter of one GPU (Volta and later). It moves about ten times a second: use windows of seconds.

    Args:
        handle: NVML's handle of the GPU.
        read: Handle -> millijoules so far.
    """

    handle: Any
    read: Callable[[Any], int]
    name: ClassVar[str] = "nvml"
    how: ClassVar[How] = "measured"

    @property
    def scope(self) -> str:
        return "the whole GPU board, every program on it and its idle power included; not the host"

    @classmethod
    def open(cls, device: torch.device) -> Nvml | None:
        """The counter of this GPU, found by its UUID; None where it cannot be read."""
        try:
            import pynvml

            pynvml.nvmlInit()
            uuid = str(torch.cuda.get_device_properties(device).uuid).removeprefix("GPU-")
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except Exception:  # no library, no driver, no such counter: each has an error of its own
            return None
        return cls(handle, pynvml.nvmlDeviceGetTotalEnergyConsumption)

    def start(self) -> Callable[[], float | None]:
        """Read the counter now; the function returned reads it again and gives the joules between."""
        before = self.read(self.handle)
        return lambda: (self.read(self.handle) - before) / 1e3
