"""A pruning job by name: the network and the task as the user calls them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from secateurs.job.measuring import Settings
from secateurs.job.opening import TaskName, open_model, open_task
from secateurs.job.result import Result
from secateurs.job.running import Job
from secateurs.names import is_function
from secateurs.recipe import load_recipe
from secateurs.search.algorithm1 import Algorithm1
from secateurs.search.costs import Budget
from secateurs.search.pareto import preference


@dataclass(frozen=True)
class Wanted:
    """What is asked of a pruning job; plain values, checked by whom they concern.

    Args:
        epsilon: How much of the quality may be lost.
        recipe: Name of a shipped recipe, or a file.
        p: Evaluate this sparsity only; None: search for the largest.
        output: Directory of the artifact; None: the network's name with ``-pruned``.
        prefer: Objectives in order, or weights: ``macs,latency`` or ``macs=1,latency=2``.
        start: The first sparsity that is tried.
        tolerance: How closely the largest is found.
        batch_size: That is timed; None: the example inputs of the task as they are.
        seed: Of everything random.
        confidence: With which the bound is to hold on the split that decides; 0.5: by the value alone.
    """

    epsilon: float
    recipe: str = "default"
    p: float | None = None
    output: str | None = None
    prefer: str = "macs,latency,energy"
    start: float = 0.3
    tolerance: float = 0.02
    batch_size: int | None = None
    seed: int = 0
    confidence: float = 0.95

    def algorithm(self) -> Algorithm1:
        """The search.

        Raises:
            SecateursError: A number is outside its range, or the preference names what is no objective.
        """
        # What is reported is measured anew at the end, so the search need not measure for long.
        budget = Budget(batch_size=self.batch_size, final_latency_seconds=5.0, final_energy_seconds=2.0)
        preferred = preference(self.prefer)
        return Algorithm1(
            self.epsilon, self.start, self.tolerance, preferred, self.seed, budget, confidence=self.confidence
        )


def prune_named(model: tuple[str, str | None], task: TaskName, wanted: Wanted) -> Result:
    """Open the network and the task and run the job.

    Args:
        model: Name, and file of weights or None.
        task: As the user names it.
        wanted: The bound, the recipe, and where the artifact goes.

    Raises:
        SecateursError: Something of it cannot be used; nothing was written then.
    """
    name, weights = model
    output = Path(wanted.output or f"{_stem(name)}-pruned")
    settings = Settings(batch_size=wanted.batch_size, seed=wanted.seed)
    job = Job(load_recipe(wanted.recipe), wanted.algorithm(), output, wanted.p, settings=settings)
    job.check()
    opened = open_model(name, weights)
    found = _anchored(task)
    made = open_task(found, opened)
    with opened.build() as build:
        return replace(job, build=build, task_name=found)(opened.model, made)


def _stem(name: str) -> str:
    """What is left of a network's name when it is to be part of a file's."""
    if is_function(name):
        place, _, function = name.rpartition(":")
        return f"{Path(place).stem if place.endswith('.py') else place.rpartition('.')[2]}-{function}"
    return Path(name).resolve().name if Path(name).exists() else name.rpartition("/")[2]


def _anchored(task: TaskName) -> TaskName:
    """The same with the paths of files made absolute, so that the artifact's task can be opened from anywhere."""
    options = {
        key: str(Path(value).resolve())
        if key in ("train", "evaluation", "selection") and Path(value).is_file()
        else value
        for key, value in task.options.items()
    }
    return TaskName(task.name, options)
