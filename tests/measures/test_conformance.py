"""What every measure keeps: it says what it is, leaves everything as it was, and repeats."""

from __future__ import annotations

import pkgutil
import random
from importlib import import_module

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateurs.measures
from secateurs.types import Measure, Task

NAMES = sorted(m.name for m in pkgutil.iter_modules(secateurs.measures.__path__) if not m.ispkg)
QUICK = {"latency": {"max_seconds": 0.05}, "energy": {"seconds": 0.05}}
TIMED = {"latency", "energy"}
STORED = {"parameters", "nonzero_parameters", "size"}  # run no forward pass


def part(name):
    cls = getattr(import_module(f"secateurs.measures.{name}"), "".join(w.capitalize() for w in name.split("_")))
    return cls(**QUICK.get(name, {}))


@pytest.fixture
def model():
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    net.train()
    net[1].eval()  # a user may have frozen its statistics
    return net


@pytest.fixture
def task():
    x, y = torch.randn(20, 6), torch.arange(20) % 3
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8, shuffle=True)
    return Task(
        name="small",
        example_inputs=(x[:4],),
        splits={"final": loader},
        loss=lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
        predict=lambda model, batch: (model(batch[0]), batch[1]),
        quality=part("accuracy"),
    )


def test_all_are_here():
    assert {"accuracy", "f1", "matthews", "loss", "perplexity", "parameters", "nonzero_parameters", "macs"} <= {*NAMES}
    assert {"nominal_macs", "latency", "memory", "energy", "size"} <= {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_reading_says_what_it_is(name, model, task):
    measure = part(name)
    assert isinstance(measure, Measure)
    assert isinstance(type(measure).higher_is_better, bool)
    reading = measure(model, task)
    assert reading.measure == name
    assert reading.unit in {"1", "parameters", "MAC", "s", "B", "J"}
    assert reading.how in {"counted", "measured", "modelled"}
    assert np.isfinite(reading.value)
    if reading.spread is not None:
        assert reading.spread[0] <= reading.value <= reading.spread[1]


def _state(model):
    return {
        "modes": [m.training for m in model.modules()],
        "weights": {k: v.clone() for k, v in model.state_dict().items()},
        "gradients": [p.grad for p in model.parameters()],
        "threads": torch.get_num_threads(),
        "grad mode": torch.is_grad_enabled(),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
    }


@pytest.mark.parametrize("name", NAMES)
def test_leaves_everything_as_it_was(name, model, task):
    before = _state(model)
    part(name)(model, task)
    after = _state(model)
    for key in ("weights", "torch"):
        torch.testing.assert_close(after.pop(key), before.pop(key), rtol=0, atol=0)
    assert after == before


@pytest.mark.parametrize("name", [name for name in NAMES if name not in STORED])
def test_leaves_everything_as_it_was_when_it_fails(name, model, task):
    broken = nn.Sequential(model, nn.Linear(5, 5))
    before = _state(broken)
    with pytest.raises(Exception, match=r"shapes|multiplied"):
        part(name)(broken, task)
    after = _state(broken)
    for key in ("weights", "torch"):
        torch.testing.assert_close(after.pop(key), before.pop(key), rtol=0, atol=0)
    assert after == before


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TIMED])
def test_repeats(name, model, task):
    assert part(name)(model, task).value == pytest.approx(part(name)(model, task).value, rel=1e-6)


@pytest.mark.parametrize("name", ["parameters", "nonzero_parameters", "macs", "nominal_macs", "size", "memory"])
def test_cost_falls_with_the_model(name, task):
    values = [
        part(name)(nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3)), task).value
        for width in (64, 16, 4)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[2]
