"""C, T and E of a pruned network beside the dense one: MACs counted, latency by pairs, energy by one meter for both."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn

from secateurs.measures.energy import Energy
from secateurs.measures.instruments.pairs import Pairs, ratio
from secateurs.measures.macs import Macs
from secateurs.measures.parameters import Parameters
from secateurs.search.configuration import Readings
from secateurs.types import Reading, SecateursError, Task

log = logging.getLogger("secateurs.search")


@dataclass(frozen=True)
class Budget:
    """How long to measure, in seconds for each network compared.

    Args:
        latency_seconds: Of one comparison during the search.
        energy_seconds: Of one network during the search.
        final_latency_seconds: Of the comparison that is reported.
        final_energy_seconds: Of each network in the report.
        batch_size: Repeat or cut the example inputs to this size; None leaves them.
        threads: Of torch's CPU operators.

    Raises:
        SecateursError: A number is not above 0.
    """

    latency_seconds: float = 2.0
    energy_seconds: float = 1.0
    final_latency_seconds: float = 20.0
    final_energy_seconds: float = 5.0
    batch_size: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise SecateursError(f"{name} of the budget must be above 0, got {value}")

    @property
    def final(self) -> Budget:
        """The same, with the time for the report."""
        return replace(self, latency_seconds=self.final_latency_seconds, energy_seconds=self.final_energy_seconds)


@dataclass(frozen=True)
class Sides:
    """Readings of the dense network, of the pruned one, and the ratios of the second to the first; by measure."""

    dense: Readings
    pruned: Readings
    ratio: Readings

    def __or__(self, other: Sides) -> Sides:
        return Sides({**self.dense, **other.dense}, {**self.pruned, **other.pruned}, {**self.ratio, **other.ratio})


@dataclass
class Costs:
    """Compares networks with one dense network.

    Args:
        model: The dense network.
        task: Its example inputs are what is run.
        budget: How long.
    """

    model: nn.Module
    task: Task
    budget: Budget

    @cached_property
    def _dense(self) -> dict[str, Reading]:
        return _counted(self.model, self.task)

    def computation(self, model: nn.Module) -> Sides:
        """C: MACs; and parameters. Counted."""
        pruned = _counted(model, self.task)
        return Sides(self._dense, pruned, {n: _quotient(self._dense[n], pruned[n]) for n in pruned})

    def time(self, model: nn.Module) -> Sides:
        """T: latency, by interleaved pairs.

        Raises:
            SecateursError: The forward pass fails on the example inputs.
        """
        b = self.budget
        settings = Pairs(b.batch_size, b.threads, max_seconds=b.latency_seconds)
        found = ratio(self.model, model, self.task.example_inputs, settings)
        return Sides({"latency": found.baseline}, {"latency": found.model}, {"latency": found.ratio})

    def energy(self, model: nn.Module) -> Sides:
        """E: joules, both by the same meter, in turns; nothing where no meter reads this machine."""
        b = self.budget
        meter = Energy(b.batch_size, b.threads, b.energy_seconds)
        try:
            dense, pruned = meter.both(self.model, model, self.task.example_inputs)
        except SecateursError as error:  # that the networks run is known by now: it is the meter that fails
            log.debug("no energy: %s", error)
            return Sides({}, {}, {})
        return Sides({"energy": dense}, {"energy": pruned}, {"energy": _quotient(dense, pruned)})


def _counted(model: nn.Module, task: Task) -> dict[str, Reading]:
    return {"parameters": Parameters()(model, task), "macs": Macs()(model, task)}


def _quotient(before: Reading, after: Reading) -> Reading:
    value = after.value / before.value if before.value else float("nan")
    return Reading(f"{after.measure}_ratio", value, "1", after.how, source=after.source, samples=after.samples)
