"""The examples run, on little data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from secateurs.names import function
from secateurs.recoveries.batch_norm import BatchNorm
from secateurs.tasks.check import check_task
from secateurs.types import SecateursError, Task

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def made(file: str, name: str, *arguments: Any) -> Any:
    return function(f"{EXAMPLES / file}.py:{name}")(*arguments)


def test_every_example_is_in_the_readme() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [p.name for p in EXAMPLES.glob("*.py") if f"({p.name})" not in text] == []


def test_own_model_trains_and_saves(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    done = subprocess.run(
        [sys.executable, EXAMPLES / "own_model.py", weights], capture_output=True, text=True, check=True
    )
    assert float(done.stdout.split()[-1]) > 0.9
    network, task = made("own_model", "network"), made("own_model", "task")
    network.load_state_dict(torch.load(weights, weights_only=True))
    check_task(network, task)
    assert task.quality(network, task).value > 0.9


@pytest.fixture(scope="module")
def cifar10() -> Task:
    try:
        return made("cifar10", "tiny")
    except SecateursError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("name", "parameters"), [("resnet20", 269_722), ("resnet56", 853_018)])
def test_cifar10_networks_are_the_published_ones(name: str, parameters: int, cifar10: Task) -> None:
    model = made("cifar10", name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    check_task(model, cifar10)
    assert cifar10.quality(model, cifar10).value > 0.85  # 128 images
    BatchNorm(batches=1)(model, {}, cifar10)
    assert cifar10.manifest["examples"] == {"train": 256, "select": 128, "final": 128}


def test_cifar10_without_data_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SECATEURS_DATA", raising=False)
    with pytest.raises(SecateursError, match="SECATEURS_DATA is not set"):
        made("cifar10", "resnet20")
    monkeypatch.setenv("SECATEURS_DATA", str(tmp_path))
    with pytest.raises(SecateursError, match=r"no file .*cifar10_train_10k\.npz"):
        made("cifar10", "task")
