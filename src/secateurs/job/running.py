"""Prune under a bound, save, reload in a new process, measure again: the whole of ``secateurs prune``.

Until all of it is done everything lies in a directory beside the output, whose name ends in ``.search``. A job that was
interrupted goes on from there; the output appears by one rename, complete, at the end.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from secateurs.deploy import Build, Function, load, save
from secateurs.job.again import Answer, Request, measure_elsewhere
from secateurs.job.data import check, diagnose
from secateurs.job.measuring import Settings, compare
from secateurs.job.opening import TaskName
from secateurs.job.output import check_output, claimed
from secateurs.job.result import Result, document
from secateurs.job.witness import difference, write
from secateurs.prune import Pruned
from secateurs.recipe import Recipe
from secateurs.repair import copied
from secateurs.report.document import text
from secateurs.search.algorithm1 import Algorithm1
from secateurs.search.inputs import sparsity_of
from secateurs.search.journal import JOURNAL
from secateurs.search.outcome import Outcome
from secateurs.types import Plan, SecateursError, Task

logger = logging.getLogger("secateurs.job")

REPORT = "report.json"
"""Beside the artifact's own files: what the job found, as ``--json`` prints it."""


@dataclass(frozen=True)
class Job:
    """One pruning job: ``job(model, task)``.

    Args:
        recipe: How to prune and heal.
        algorithm: The bound, and the search for the largest p under it.
        output: The artifact's directory; must not exist yet.
        p: Evaluate this sparsity only; None: search.
        build: How the dense network is made anew; None: whoever loads the artifact gives a callable.
        task_name: By which a new process opens the task; None: everything is measured again in this process.
        dense: An artifact of the dense network, where there is one; else one is made for the time of the job.
        settings: Of the clocks that read what is reported.
    """

    recipe: Recipe
    algorithm: Algorithm1
    output: Path
    p: float | None = None
    build: Build | None = None
    task_name: TaskName | None = None
    dense: Path | None = None
    settings: Settings = field(default_factory=Settings)

    @property
    def workplace(self) -> Path:
        """Where everything lies until it is done."""
        return self.output.with_name(f"{self.output.name}.search")

    def check(self) -> None:
        """Refuse before any work is done.

        Raises:
            SecateursError: The recipe cannot give p, or the output exists or cannot be written.
        """
        sparsity_of(self.recipe, self.p)
        check_output(self.output)

    def __call__(self, model: nn.Module, task: Task) -> Result:
        """Run it, or go on with it.

        Args:
            model: The dense network; left alone.
            task: Of the user.

        Raises:
            SecateursError: The output exists or another process is making it, the inputs cannot be used, or an
                unfinished job had other ones.
        """
        with claimed(self.output):
            return self._done(model, task)

    def _done(self, model: nn.Module, task: Task) -> Result:
        check(task)
        outcome = self._searched(model, task)
        artifact = self.workplace / "artifact"
        shutil.rmtree(artifact, ignore_errors=True)
        pruned = outcome.pruned or _unpruned(model)
        self._save(artifact, pruned, _manifest(self, task, outcome))
        answer = self._measured(model, pruned.model, task, artifact)
        result = Result(task.name, outcome, answer.comparison, self.output, answer.difference)
        result = replace(result, held=outcome.held and _still_holds(outcome, answer, task))
        (artifact / REPORT).write_text(text(document(result)) + "\n", encoding="utf-8")
        artifact.rename(self.output)
        shutil.rmtree(self.workplace, ignore_errors=True)
        return result

    def _searched(self, model: nn.Module, task: Task) -> Outcome:
        search = self.workplace / "search"
        fresh = not self.workplace.exists()
        if not fresh:
            logger.warning("going on with the unfinished search in %s", self.workplace)
        try:
            return self.algorithm(model, task, self.recipe, search, self.p)
        except Exception as error:
            if fresh and not _has_evaluated(search):
                shutil.rmtree(self.workplace, ignore_errors=True)
            if not isinstance(error, SecateursError | OSError):
                diagnose(model, task)  # raises where the data are to blame
            raise

    def _save(self, directory: Path, pruned: Pruned, manifest: Mapping[str, Any]) -> None:
        logger.info("saving")
        save(directory, pruned, recipe=self.recipe, manifest=manifest, build=self.build)

    def _measured(self, model: nn.Module, pruned: nn.Module, task: Task, artifact: Path) -> Answer:
        """What the artifact gives, loaded anew."""
        witness = self.workplace / "witness.safetensors"
        write(witness, pruned, task.example_inputs)
        if self.build is None or self.task_name is None:
            loaded = load(artifact, self.build or (lambda: copied(model)))
            return Answer(compare(model, loaded, task, self.settings), difference(witness, loaded))
        logger.info("loading and measuring the artifact in a new process")
        dense = self.dense or self.workplace / "dense"
        if self.dense is None:
            shutil.rmtree(dense, ignore_errors=True)
            self._save(dense, _unpruned(model), {})
        trusted = (self.build.target,) if isinstance(self.build, Function) else ()
        request = Request(str(dense), str(artifact), str(witness), self.task_name, self.settings, trusted)
        return measure_elsewhere(request)


def _has_evaluated(search: Path) -> bool:
    """Whether there is anything worth going on with."""
    journal = search / JOURNAL
    return journal.exists() and '"kind": "configuration"' in journal.read_text(encoding="utf-8")


def _unpruned(model: nn.Module) -> Pruned:
    return Pruned(model, Plan({}), (), model, (), 0.0)


def _still_holds(outcome: Outcome, answer: Answer, task: Task) -> bool:
    """Whether the reloaded network keeps the bound too."""
    quality = next(iter(answer.comparison.pruned.values())).value
    slack = 1e-9
    return quality >= outcome.limit - slack if task.quality.higher_is_better else quality <= outcome.limit + slack


def _manifest(job: Job, task: Task, outcome: Outcome) -> dict[str, Any]:
    return {
        "task": task.name,
        "task_name": job.task_name,
        "data": task.manifest,
        "epsilon": outcome.epsilon,
        "held": outcome.held,
        "seed": job.algorithm.seed,
        "dense": outcome.dense,
        "pruned": outcome.readings,
        "ratio": outcome.ratio,
        "configurations": outcome.configurations,
        "search": {"seconds": outcome.seconds, "energy": outcome.spent},
        "notes": outcome.notes,
    }
