"""What another process measures comes back, and what it cannot do comes back as its one line."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from torch import nn

from secateurs.criteria.magnitude import Magnitude
from secateurs.deploy import Function, save
from secateurs.job.again import Request, measure_elsewhere
from secateurs.job.measuring import Settings
from secateurs.job.opening import Opened, TaskName, open_task
from secateurs.job.witness import write
from secateurs.names import call
from secateurs.prune import Pruned, prune
from secateurs.recipe import Recipe
from secateurs.structures.neuron import Neuron
from secateurs.types import Plan, SecateursError

NET = """
import torch
from torch import nn
from secateurs.tasks.image_classification import ImageOptions, Images, image_classification

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))

def task():
    print("a print of the user's own")
    torch.manual_seed(0)
    images = Images(torch.randn(30, 1, 4, 4), torch.arange(30) % 3)
    return image_classification("thirty", dict(train=images, select=images, final=images), ImageOptions(examples=4))
"""


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    (tmp_path / "net_again.py").write_text(NET)
    build = Function(f"{tmp_path / 'net_again.py'}:build")
    model: nn.Module = call(build.target).eval()
    name = TaskName(f"{tmp_path / 'net_again.py'}:task")
    task = open_task(name, Opened("net", model))
    recipe = Recipe(structure=(Neuron(),), criterion=Magnitude())
    pruned = prune(model, task, recipe, 0.5)
    dense = Pruned(model, Plan({}), (), model, (), 0.0)
    for where, it in (("dense", dense), ("pruned", pruned)):
        save(tmp_path / where, it, recipe=recipe, manifest={}, build=build)
    write(tmp_path / "witness", pruned.model, task.example_inputs)
    return Request(
        str(tmp_path / "dense"),
        str(tmp_path / "pruned"),
        str(tmp_path / "witness"),
        name,
        Settings(latency_seconds=0.05, energy_seconds=0.02),
        (build.target,),
    )


def test_it_measures_what_lies_on_the_disk(request_: Request, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "secateurs")
    answer = measure_elsewhere(request_)
    assert answer.difference <= 1e-5
    assert answer.comparison.ratio("macs") == 0.5
    assert answer.comparison.paired["latency"].spread is not None
    assert "measuring" in caplog.text


def test_its_error_is_one_line_here_too(request_: Request) -> None:
    weights = Path(request_.pruned, "model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(SecateursError, match="is not as it was written"):
        measure_elsewhere(request_)
