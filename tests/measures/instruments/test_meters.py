from __future__ import annotations

import pytest
import torch

from secateurs.measures.instruments import load_model, rapl
from secateurs.measures.instruments.meters import Meter, open_meter

CPU = torch.device("cpu")


class Steady:
    name, how, scope = "steady", "measured", "a test"

    def __init__(self):
        self.joules = 0.0

    def start(self):
        before = self.joules
        return lambda: self.joules - before


def test_windows_lie_within_each_other():
    source = Steady()
    meter = Meter(CPU, source)
    assert (meter.source, meter.how, meter.scope) == ("steady", "measured", "a test")
    with meter.window() as outer:
        source.joules += 1
        with meter.window() as inner:
            source.joules += 2
        source.joules += 4
    assert (inner.joules, outer.joules) == (2, 7)
    assert 0 < inner.seconds < outer.seconds


def test_no_meter_is_no_failure(monkeypatch):
    monkeypatch.setattr(rapl.Rapl, "open", classmethod(lambda cls: None))
    monkeypatch.setattr(load_model.LoadModel, "open", classmethod(lambda cls: None))
    meter = open_meter("cpu")
    assert meter.source is None
    assert "codecarbon (3.3 or later) is missing" in meter.missing
    with meter.window() as window:
        pass
    assert window.joules is None
    assert window.seconds > 0


def test_counters_come_before_the_model(monkeypatch):
    monkeypatch.setattr(rapl.Rapl, "open", classmethod(lambda cls: Steady()))
    assert open_meter().source == "steady"


def test_other_devices_have_none():
    assert open_meter("meta").missing == "no energy meter is known for meta"
    if not torch.cuda.is_available():
        assert open_meter("cuda").source is None


def test_a_failing_meter_does_not_end_the_work(caplog):
    class Failing(Steady):
        def start(self):
            if self.joules:
                raise OSError("gone")
            return lambda: 1 / 0

    source = Failing()
    with Meter(CPU, source).window() as window:
        done = True
    assert done
    assert window.joules is None
    source.joules = 1.0
    with Meter(CPU, source).window() as window:
        pass
    assert window.joules is None
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING"]


def test_an_error_inside_is_passed_on_and_the_window_closed():
    source = Steady()
    with pytest.raises(ZeroDivisionError), Meter(CPU, source).window() as window:
        source.joules += 3
        raise ZeroDivisionError
    assert window.joules == 3
