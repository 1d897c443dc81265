"""A job leaves a whole artifact or none, keeps what was found, and goes on where it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import secateurs
from secateurs.criteria.magnitude import Magnitude
from secateurs.deploy import Function
from secateurs.job import running
from secateurs.job.again import Answer, Request
from secateurs.job.measuring import Settings
from secateurs.job.opening import TaskName
from secateurs.job.result import Result, document
from secateurs.job.running import REPORT, Job
from secateurs.recipe import Recipe
from secateurs.search.algorithm1 import Algorithm1
from secateurs.search.costs import Budget
from secateurs.structures.neuron import Neuron
from secateurs.tasks.image_classification import ImageOptions, Images, image_classification
from secateurs.types import SecateursError, Task

SHORT = Settings(latency_seconds=0.05, energy_seconds=0.02)
BUDGET = Budget(0.02, 0.02, 0.02, 0.02)


@pytest.fixture
def task() -> Task:
    labels = torch.arange(60) % 3
    images = Images(torch.randn(60, 1, 4, 4) + labels[:, None, None, None], labels)
    parts = {"train": images[:20], "select": images[20:40], "final": images[40:]}
    return image_classification("sixty", parts, ImageOptions(examples=4))


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)).eval()


def _job(output: Path, epsilon: float = 0.9, p: float | None = 0.5) -> Job:
    recipe = Recipe(structure=(Neuron(),), criterion=Magnitude())
    return Job(recipe, Algorithm1(epsilon, tolerance=0.2, budget=BUDGET), output, p=p, settings=SHORT)


def test_the_artifact_is_whole_and_tells_what_was_found(tmp_path: Path, task: Task) -> None:
    model = _net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = _job(tmp_path / "deep" / "out")(model, task)
    assert result.held
    assert result.difference <= 1e-5
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["out"]
    loaded = secateurs.load(tmp_path / "deep" / "out", build=_net)
    assert sum(p.numel() for p in loaded.parameters()) == result.comparison.pruned["parameters"].value
    told = json.loads((tmp_path / "deep" / "out" / REPORT).read_text())
    assert told == json.loads(json.dumps(document(result)))


def test_the_document_has_what_is_promised(tmp_path: Path, task: Task) -> None:
    found = document(_job(tmp_path / "out")(_net(), task))
    assert set(found) >= {"dense", "pruned", "ratio", "epsilon", "held", "front", "artifact"}
    assert set(found["ratio"]) >= {"latency", "macs", "parameters", "energy"}
    assert found["ratio"]["macs"] == pytest.approx(0.5)
    assert all({"value", "unit", "how", "spread", "source"} <= set(one) for one in found["pruned"].values())
    assert [one["p"] for one in found["front"]] == [0.5]


def test_a_sparsity_that_is_none_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(SecateursError, match="p must be in"):
        _job(tmp_path / "out", p=0.0).check()


def test_an_output_that_exists_is_left_alone(tmp_path: Path, task: Task) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(SecateursError, match="out exists"):
        _job(tmp_path / "out")(_net(), task)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_what_was_interrupted_goes_on(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = _job(tmp_path / "out", p=None)
    with monkeypatch.context() as patched:
        patched.setattr(running, "save", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            job(_net(), task)
    assert not job.output.exists()
    journal = (job.workplace / "search" / "journal.jsonl").read_text()
    result = job(_net(), task)
    assert "going on with the unfinished search" in caplog.text
    configurations = [json.loads(line)["is"]["p"] for line in journal.splitlines() if '"configuration"' in line]
    assert [one.p for one in result.outcome.configurations] == configurations
    assert not job.workplace.exists()


def _interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_another_search_in_the_same_place_is_refused_and_kept(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(running, "save", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            _job(tmp_path / "out")(_net(), task)
    with pytest.raises(SecateursError, match="another epsilon"):
        _job(tmp_path / "out", epsilon=0.8)(_net(), task)
    assert (tmp_path / "out.search" / "search" / "journal.jsonl").exists()


def test_nothing_stays_of_a_job_that_could_not_begin(tmp_path: Path, task: Task) -> None:
    model = _net()
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    with pytest.raises(SecateursError, match="NaN"):
        _job(tmp_path / "out")(model, task)
    assert list(tmp_path.iterdir()) == []


def test_where_no_p_holds_the_network_is_saved_as_it_is(tmp_path: Path, task: Task) -> None:
    labels = _net()(torch.cat([pixels for pixels, _ in task.splits["select"]])).argmax(1)
    pixels = torch.cat([pixels for pixels, _ in task.splits["select"]])
    sure = Images(pixels, labels)
    strict = image_classification("sure", {"train": sure, "select": sure, "final": sure}, ImageOptions(examples=4))
    result = _job(tmp_path / "out", epsilon=0.0, p=0.9)(_net(), strict)
    assert result.outcome.unchanged
    assert not result.held
    assert any("returned unchanged" in note for note in result.notes)
    loaded = secateurs.load(tmp_path / "out", build=_net)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), _net().parameters(), strict=True))


def test_with_names_another_process_is_asked(tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Answer:
        asked.append(request)
        assert Path(request.dense, "manifest.json").exists()
        assert Path(request.pruned, "manifest.json").exists()
        assert Path(request.witness).exists()
        monkeypatch.undo()
        return Answer(_job(tmp_path / "other")(_net(), task).comparison, 3e-7)

    monkeypatch.setattr(running, "measure_elsewhere", answer)
    from dataclasses import replace

    job = replace(_job(tmp_path / "out"), build=Function("a.module:build"), task_name=TaskName("a.module:task"))
    result: Result = job(_net(), task)
    assert result.difference == 3e-7
    assert asked[0].trusted == ("a.module:build",)
    assert asked[0].task == TaskName("a.module:task")
