"""Every measure of one network, or of two side by side."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from torch import nn

from secateurs.job.opening import TaskName, open_model, open_task, recorded_task, untold
from secateurs.measures.energy import Energy
from secateurs.measures.instruments.pairs import Pairs, ratio
from secateurs.measures.latency import Latency
from secateurs.measures.macs import Macs
from secateurs.measures.memory import Memory
from secateurs.measures.nonzero_parameters import NonzeroParameters
from secateurs.measures.parameters import Parameters
from secateurs.measures.size import Size
from secateurs.names import is_function
from secateurs.report.comparison import Comparison
from secateurs.types import Measure, Reading, SecateursError, Task

logger = logging.getLogger("secateurs.job")


@dataclass(frozen=True)
class Settings:
    """How long and on what the clocks run.

    Args:
        batch_size: Of the timed batch; None: the example inputs of the task as they are.
        threads: Of the timed forward passes.
        latency_seconds: At most this long for the pairs of forward passes.
        energy_seconds: For each of the two energy readings.
        seed: Of the order of the pairs.
    """

    batch_size: int | None = None
    threads: int = 1
    latency_seconds: float = 30.0
    energy_seconds: float = 5.0
    seed: int = 0


def final(task: Task) -> Measure:
    """The measure that is A, on the split that nothing else has seen.

    Args:
        task: Of the user.
    """
    quality: Any = task.quality
    if is_dataclass(quality) and not isinstance(quality, type) and "split" in {f.name for f in fields(quality)}:
        quality = replace(quality, split="final")
    return quality  # type: ignore[no-any-return]  # a Measure went in


def readings(model: nn.Module, task: Task, settings: Settings | None = None) -> dict[str, Reading]:
    """Take every measure of one network.

    Args:
        model: In evaluation mode.
        task: Gives the data and the inputs.
        settings: Of the clocks.

    Returns:
        Measure -> reading; a measure that this machine cannot take has a NaN reading with a note.
    """
    settings = settings or Settings()
    found = _quick(model, task, settings)
    logger.info("measuring latency")
    found["latency"] = Latency(
        settings.batch_size, settings.threads, max_seconds=settings.latency_seconds, seed=settings.seed
    )(model, task)
    logger.info("measuring energy")
    try:
        found["energy"] = _energy(settings)(model, task)
    except SecateursError as error:  # the network has just run: it is the meter that is missing
        found["energy"] = _unread(error)
    return _ordered(found)


def compare(dense: nn.Module, pruned: nn.Module, task: Task, settings: Settings | None = None) -> Comparison:
    """Take every measure of two networks; latency by interleaved pairs, energy in alternating windows.

    Args:
        dense: The network as given, in evaluation mode.
        pruned: The smaller one.
        task: Gives the data and the inputs.
        settings: Of the clocks.
    """
    settings = settings or Settings()
    before, after = _quick(dense, task, settings), _quick(pruned, task, settings)
    logger.info("timing the two networks, pair by pair")
    timed = ratio(dense, pruned, task.example_inputs, _pairs(settings))
    before["latency"], after["latency"] = timed.baseline, timed.model
    logger.info("measuring the energy of the two networks, in turns")
    try:
        before["energy"], after["energy"] = _energy(settings).both(dense, pruned, task.example_inputs)
    except SecateursError as error:
        before["energy"] = after["energy"] = _unread(error)
    paired = {"latency": timed.ratio, "latency_wall": timed.wall, "latency_control": timed.control}
    return Comparison(_ordered(before), _ordered(after), paired, _notes(timed.ratio, after))


def measure_named(
    name: tuple[str, str | None],
    task: TaskName | None,
    settings: Settings | None = None,
    trusted: Collection[str] = (),
) -> dict[str, Reading]:
    """Open a network by name and take every measure of it.

    Args:
        name: Name, and file of weights or None.
        task: None: the task that it was made for, where it is an artifact that says so.
        settings: Of the clocks.
        trusted: Functions that may be run to build an artifact.

    Raises:
        SecateursError: As ``open_model`` and ``open_task``, or no task is known.
    """
    wanted = _known(task, trusted, name[0])
    opened = open_model(*name, trusted=trusted)
    return readings(opened.model, open_task(wanted, opened), settings)


def _known(task: TaskName | None, trusted: Collection[str], *names: str) -> TaskName:
    known = [said for said in (task, *map(recorded_task, names)) if said is not None]
    if not known:
        raise untold(names[0], {*trusted, *filter(is_function, names)})
    return known[0]


def compare_named(
    dense: tuple[str, str | None],
    pruned: str,
    task: TaskName | None,
    settings: Settings | None = None,
    trusted: Collection[str] = (),
) -> Comparison:
    """Open two networks by name and compare them.

    Args:
        dense: Name, and file of weights or None.
        pruned: Name; often an artifact's directory.
        task: None: the task that the pruned network was made for, where its artifact says so.
        settings: Of the clocks.
        trusted: Functions that may be run to build an artifact.

    Raises:
        SecateursError: As ``open_model`` and ``open_task``, or no task is known.
    """
    wanted = _known(task, trusted, pruned, dense[0])
    before = open_model(*dense, trusted=trusted)
    after = open_model(pruned, trusted={*trusted, *([before.builder] if before.builder else [])})
    return compare(before.model, after.model, open_task(wanted, before), settings)


def _quick(model: nn.Module, task: Task, settings: Settings) -> dict[str, Reading]:
    """Everything but the clocks."""
    counted: tuple[Measure, ...] = (Parameters(), NonzeroParameters(), Macs(), Memory(settings.batch_size), Size())
    found = {}
    for measure in (final(task), *counted):
        logger.info("measuring %s", type(measure).__name__.lower())
        reading = measure(model, task)
        found[reading.measure] = reading
    return found


def _energy(settings: Settings) -> Energy:
    return Energy(settings.batch_size, settings.threads, settings.energy_seconds)


def _unread(error: SecateursError) -> Reading:
    return Reading("energy", math.nan, "J", "measured", note=str(error))


def _pairs(settings: Settings) -> Pairs:
    return Pairs(
        batch_size=settings.batch_size,
        threads=settings.threads,
        max_seconds=settings.latency_seconds,
        seed=settings.seed,
    )


def _ordered(found: dict[str, Reading]) -> dict[str, Reading]:
    """Quality first, then what is counted, then what is measured."""
    last = ("parameters", "nonzero_parameters", "macs", "latency", "energy", "memory", "size")
    quality = [name for name in found if name not in last]
    return {name: found[name] for name in (*quality, *last) if name in found}


def _notes(timed: Reading, after: dict[str, Reading]) -> tuple[str, ...]:
    noted = {"latency": timed, "energy": after["energy"]}
    return tuple(f"{name}: {reading.note}" for name, reading in noted.items() if reading.note)
