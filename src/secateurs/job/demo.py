"""The embedded default: a network trained there and then on real digits, pruned, saved, reloaded and measured."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from torch import nn

from secateurs.deploy import Function, load, read_build, save
from secateurs.job.measuring import Settings
from secateurs.job.opening import TaskName
from secateurs.job.output import check_output
from secateurs.job.result import Result
from secateurs.job.running import Job
from secateurs.prune import Pruned
from secateurs.recipe import Recipe, load_recipe
from secateurs.recoveries.fine_tune import FineTune
from secateurs.schedules.one_shot import OneShot
from secateurs.search.algorithm1 import Algorithm1
from secateurs.search.bound import check_epsilon
from secateurs.search.costs import Budget
from secateurs.tasks.mnist import mnist, trained
from secateurs.types import Plan, SecateursError, Task

logger = logging.getLogger("secateurs.job")

MODELS = MappingProxyType({"conv": ("conv_net", "convnet", 3e-3), "vit": ("vit", "transformer", 1e-3)})
"""Name -> the function that builds it, the recipe that suits it, and the learning rate that heals it."""


@dataclass(frozen=True)
class Demo:
    """``Demo()()`` runs it.

    Args:
        model: ``conv`` or ``vit``.
        epsilon: How much accuracy may be lost, as a fraction.
        output: Directory for the dense and the pruned network; must not exist, unless a demo was interrupted in it.
        seed: Of the first weights, the training and the search.
        settings: Of the clocks.

    Raises:
        SecateursError: No such model, or epsilon outside [0, 1).
    """

    model: str = "conv"
    epsilon: float = 0.01
    output: Path = Path("secateurs-demo")
    seed: int = 0
    settings: Settings = field(default_factory=lambda: Settings(latency_seconds=6.0, energy_seconds=2.0))

    def __post_init__(self) -> None:
        """Check before any work."""
        if self.model not in MODELS:
            raise SecateursError(f"no embedded model '{self.model}'; give one of: {', '.join(MODELS)}")
        check_epsilon(self.epsilon)
        self.algorithm()

    @property
    def build(self) -> Function:
        """How the dense network is made."""
        return Function(f"secateurs.tasks.mnist:{MODELS[self.model][0]}")

    def recipe(self) -> Recipe:
        """The shipped recipe in one round, healed by the labels for as long as the time of a demo allows."""
        heal = FineTune(epochs=6.0, learning_rate=MODELS[self.model][2], decay="cosine", evaluations=1, patience=20)
        return replace(load_recipe(MODELS[self.model][1]), schedule=OneShot(), recovery=heal)

    def algorithm(self) -> Algorithm1:
        """A search that ends soon: a coarse bracket and short clocks, since all is measured again at the end."""
        budget = Budget(latency_seconds=1.0, energy_seconds=0.5, final_latency_seconds=2.0, final_energy_seconds=1.0)
        return Algorithm1(self.epsilon, tolerance=0.16, seed=self.seed, budget=budget)

    def __call__(self) -> Result:
        """Train, prune, save, reload, measure.

        Raises:
            SecateursError: The output exists, or cannot be written.
        """
        job = Job(
            recipe=self.recipe(),
            algorithm=self.algorithm(),
            output=self.output / "pruned",
            build=self.build,
            task_name=TaskName("mnist"),
            dense=self.output / "dense",
            settings=self.settings,
        )
        dense = self.output / "dense"
        if not dense.exists():
            check_output(self.output)
        job.check()
        task = mnist()
        return job(self._resumed(dense) if dense.exists() else self._trained(dense, task), task)

    def _resumed(self, dense: Path) -> nn.Module:
        if read_build(dense) != self.build:
            raise SecateursError(f"{self.output} holds a demo of another model; name another directory or remove it")
        return load(dense)

    def _trained(self, dense: Path, task: Task) -> nn.Module:
        logger.info("training a network on %d digits", task.manifest["examples"]["train"])
        model = trained(MODELS[self.model][0], task, self.seed)
        unpruned = Pruned(model, Plan({}), (), model, (), 0.0)
        manifest = {"task": task.name, "task_name": TaskName("mnist"), "seed": self.seed}
        save(dense, unpruned, recipe=self.recipe(), manifest=manifest, build=self.build)
        return model


def free(directory: Path) -> Path:
    """The directory itself, or the first of ``directory-2``, ... where no finished demo lies.

    Args:
        directory: Wanted.
    """
    wanted, number = directory, 1
    while (wanted / "pruned").exists() or (wanted.exists() and not (wanted / "dense").exists()):
        number += 1
        wanted = directory.with_name(f"{directory.name}-{number}")
    return wanted
