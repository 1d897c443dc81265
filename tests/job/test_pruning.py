"""A job by name: what is wrong is told before anything is opened, and the artifact knows its task."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from secateurs.job import pruning
from secateurs.job.opening import TaskName
from secateurs.job.pruning import Wanted, prune_named
from secateurs.job.result import Result
from secateurs.job.running import Job
from secateurs.search.pareto import Lexicographic, Weights
from secateurs.types import SecateursError


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"epsilon": -0.1}, "epsilon"),
        ({"recipe": "no-such"}, "no-such"),
        ({"prefer": "speed"}, "speed"),
        ({"start": 0.0}, "start"),
        ({"seed": -1}, "seed"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_wrong_wishes_are_told_before_the_model_is_opened(wrong: dict[str, object], line: str, tmp_path: Path) -> None:
    wanted = replace(Wanted(0.1, output=str(tmp_path / "out")), **wrong)  # type: ignore[arg-type]
    with pytest.raises(SecateursError, match=line):
        prune_named(("no.such.module:build", None), TaskName("mnist"), wanted)


def test_wishes_reach_the_search() -> None:
    algorithm = Wanted(0.02, prefer="latency=2,macs=1", start=0.4, tolerance=0.1, seed=7, batch_size=5).algorithm()
    assert (algorithm.epsilon, algorithm.start, algorithm.tolerance, algorithm.seed) == (0.02, 0.4, 0.1, 7)
    assert algorithm.preference == Weights({"latency": 2.0, "macs": 1.0})
    assert algorithm.budget.batch_size == 5
    assert Wanted(0.0, prefer="energy").algorithm().preference == Lexicographic(("energy",))


@pytest.mark.parametrize(
    ("name", "output"),
    [("net_pruning.py:build", "net_pruning-build-pruned"), ("secateurs.tasks.mnist:vit", "mnist-vit-pruned")],
)
def test_the_job_is_put_together(name: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Job] = []

    def run(job: Job, *_: object) -> Result:
        jobs.append(job)
        raise SecateursError("enough")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "net_pruning.py").write_text("from secateurs.tasks.mnist import conv_net as build\n")
    monkeypatch.setattr(pruning.Job, "__call__", run)
    monkeypatch.setattr(pruning, "open_task", lambda *_: None)
    with pytest.raises(SecateursError, match="enough"):
        prune_named((name, None), TaskName("mnist"), Wanted(0.1, p=0.25))
    (job,) = jobs
    assert job.output == Path(output)
    assert job.p == 0.25
    assert job.task_name == TaskName("mnist")
    assert job.build is not None
    assert {field.name for field in fields(job)} >= {"recipe", "algorithm"}


def test_paths_of_data_are_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("x")
    found = pruning._anchored(
        TaskName("text", {"train": "a.csv", "evaluation": "glue/sst2:validation", "label": "a.csv"})
    )
    assert found.options == {"train": str(tmp_path / "a.csv"), "evaluation": "glue/sst2:validation", "label": "a.csv"}
