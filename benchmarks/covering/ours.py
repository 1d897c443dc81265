"""Ours: prune an architecture by the public calls, hold it to the oracle, save it."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from architectures import ARCHITECTURES
from architectures.kinds import Inputs
from torch import Tensor, nn

from covering.values import call, difference, distinct_, gradients, removed
from secateurs import Recipe, Task, prune, trace
from secateurs.deploy import Build, Function, Transformers, save
from secateurs.graph import Graph
from secateurs.graph.statistics import differs, reference
from secateurs.measures.parameters import Parameters
from secateurs.prune import Pruned, traced
from secateurs.report.reasons import explained
from secateurs.types import SecateursError

RECIPE: dict[str, Any] = {"structure": ["channel", "neuron", "head"], "criterion": "magnitude", "allocation": "uniform"}
REWRITING = {**RECIPE, "rewrite": True}
HEADS = ("heads", "kv_heads")

Tell = Callable[..., None]
"""Writes down some fields of the row, so that they stand even if what comes next ends the process."""


def ours(name: str, ratio: float, directory: Path, tell: Tell) -> None:
    """Everything that is asked of one architecture, in order; each answer is told at once."""
    architecture = ARCHITECTURES[name]
    torch.manual_seed(0)
    dense = distinct_(architecture.build())
    inputs, fresh = architecture.inputs(2, 12), architecture.inputs(3, 16)
    stays = _Stays()
    logging.getLogger("secateurs.prune").addHandler(stays)
    start = time.process_time()
    network = trace(dense, inputs)
    tell(traced=True, trace_seconds=time.process_time() - start, unknown=sorted(network.unknown))
    tell(heads=_heads(network, {}), heads_stay=_frozen(network, HEADS), frozen=_frozen(network, ()))
    pruned = prune(dense, _task(inputs), Recipe.from_dict(RECIPE), ratio, network=network)
    tell(seconds=time.process_time() - start, removed=removed(dense, pruned.model), stays=[*stays.lines])
    recipe = RECIPE
    before, after = _heads(network, _sizes(pruned, network))
    told = [line for line in stays.lines if "heads" in line] + [*map(explained, _frozen(network, HEADS))]
    if before == after and any("`rewrite: true`" in line for line in told):  # as it says
        start = time.process_time()
        try:
            there = traced(dense, inputs, Recipe.from_dict(REWRITING))
            pruned = prune(dense, _task(inputs), Recipe.from_dict(REWRITING), ratio, network=there)
        except SecateursError as error:
            tell(rewritten=str(error))
        else:
            network = there
            recipe = REWRITING
            tell(rewritten=True, removed=removed(dense, pruned.model))
        tell(rewrite_seconds=time.process_time() - start)
    tell(heads=_heads(network, _sizes(pruned, network)))
    with torch.no_grad():
        mine = call(pruned.model, fresh)
        tell(runs=True)
        tell(difference=difference(mine, _wanted(pruned, network, fresh)))
    start = time.process_time()
    save(directory, pruned, recipe=Recipe.from_dict(recipe), manifest={}, build=_build(name, dense))
    torch.save({"inputs": fresh, "outputs": mine}, directory.with_suffix(".pt"))
    tell(saved=True, save_seconds=time.process_time() - start)
    tell(backward=_backward(pruned.model, dense, fresh))


def _wanted(pruned: Pruned, network: Graph, inputs: Inputs) -> tuple[Tensor, ...]:
    """What the masked network computes; its statistics over the positions that stay, where some of them go."""
    if not differs(network, pruned.groups, pruned.plan):
        return call(pruned.masked, inputs)
    found = reference(pruned.masked, inputs, network, pruned.groups, pruned.plan)
    return tuple(t for t in found if t.is_floating_point()) or found


def _backward(small: nn.Module, dense: nn.Module, inputs: Inputs) -> bool | str:
    """Whether the smaller network has gradients; in words where the dense one has none either."""
    try:
        return gradients(small, inputs)
    except RuntimeError:
        try:
            gradients(dense, inputs)
        except RuntimeError:
            return "nor has the dense network"
        raise


class _Stays(logging.Handler):
    """What pruning says stays, and why."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _task(inputs: Inputs) -> Task:
    def unused(model: nn.Module, batch: object) -> Any:
        raise NotImplementedError

    return Task("coverage", inputs, {"train": ()}, loss=unused, predict=unused, quality=Parameters())


def _heads(network: Graph, sizes: dict[str, int]) -> list[int]:
    """Heads before and after."""
    dims = [dim for dim in network.dims.values() if dim.role in HEADS]
    return [sum(dim.size for dim in dims), sum(sizes.get(dim.name, dim.size) for dim in dims)]


def _frozen(network: Graph, roles: tuple[str, ...]) -> list[str]:
    """Why dims of these roles, or of all that might have shrunk, are frozen; the commonest first."""
    ruled_out = ("input", "output", "kernel", "vocabulary")
    dims = [dim for dim in network.dims.values() if (dim.role in roles if roles else dim.role not in ruled_out)]
    return [why for why, _ in Counter(dim.frozen for dim in dims if dim.frozen).most_common(2)]


def _sizes(pruned: Pruned, network: Graph) -> dict[str, int]:
    from secateurs.surgery import sizes_after

    return sizes_after(pruned.groups, pruned.plan, network)


def _build(name: str, dense: nn.Module) -> Build:
    try:
        return Transformers.of(dense)
    except SecateursError:  # no class of transformers itself
        return Function("architectures:build", {"name": name})


def reload() -> None:
    """A process that has pruned nothing: a directory a line on stdin, on stdout how far its outputs are."""
    from secateurs.deploy import load, read_build

    for line in sys.stdin:
        directory = Path(line.strip())
        said = torch.load(directory.with_suffix(".pt"))
        try:
            with torch.no_grad():
                answer = f"{difference(call(load(directory, read_build(directory)), said['inputs']), said['outputs'])}"
        except Exception as error:  # told, and the next one is taken
            answer = f"{type(error).__name__}: {error}".splitlines()[0]
        print(answer, flush=True)
