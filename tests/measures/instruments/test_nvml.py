from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from secateurs.measures.instruments.nvml import Nvml

GPU = torch.device("cuda", 0)


@pytest.fixture
def driver(monkeypatch):
    """A driver with one GPU whose counter stands at 5,000 mJ."""
    fake = SimpleNamespace(
        millijoules=5000,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: {"GPU-abc": "handle"}[uuid],
    )
    fake.nvmlDeviceGetTotalEnergyConsumption = lambda handle: {"handle": fake.millijoules}[handle]
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="abc"))
    return fake


def test_joules_between_two_readings(driver):
    gpu = Nvml.open(GPU)
    stop = gpu.start()
    driver.millijoules += 1500
    assert stop() == 1.5
    assert (gpu.name, gpu.how) == ("nvml", "measured")
    assert "GPU board" in gpu.scope


def test_none_without_driver_counter_or_library(driver, monkeypatch):
    def unsupported(handle):
        raise RuntimeError("Not Supported")

    driver.nvmlDeviceGetTotalEnergyConsumption = unsupported
    assert Nvml.open(GPU) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Nvml.open(GPU) is None
