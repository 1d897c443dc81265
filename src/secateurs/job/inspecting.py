"""What a network is made of: its dims, who carries them, why some cannot shrink, and what each costs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from torch import nn

from secateurs.deploy import Function, read_build
from secateurs.graph import Graph, trace
from secateurs.graph.weightless import UnknownValueError
from secateurs.job.examples import of_config, of_shape
from secateurs.job.opening import TaskName, open_layout, open_model, open_task, recorded_task, untold
from secateurs.structures.layer import Layer
from secateurs.types import Dim, Inputs, SecateursError

SHAPES = (
    "--shape gives random floats of these sizes, the batch first: 1x3x32x32 is an image, 8x20 are rows of features; "
    "what reads token ids needs --task, or a config and no --shape"
)

Kind = Literal["block", "branch"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a dim costs, counted from the trace.

    Args:
        dim: The dim.
        unit_macs: Multiply-accumulates that one position less saves.
        unit_parameters: Parameters that one position less saves.
        macs: Multiply-accumulates that every position together takes part in.
        parameters: Parameters that carry it.
    """

    dim: Dim
    unit_macs: int
    unit_parameters: int
    macs: int
    parameters: int


@dataclass(frozen=True, slots=True)
class Depth:
    """Like layers around which one residual stream leads, each of which can be skipped.

    Args:
        name: Of the chain.
        of: Whole ``block``s, or single residual ``branch``es.
        size: How many there are.
        unit_macs: Multiply-accumulates that one of them takes, on average.
        unit_parameters: Parameters that one of them has, on average.
    """

    name: str
    of: Kind
    size: int
    unit_macs: float
    unit_parameters: float


@dataclass(frozen=True, slots=True)
class Inspection:
    """A network taken apart.

    Args:
        costs: One per dim, in the order of the parameters that carry them.
        macs: Of one forward pass on the example inputs.
        parameters: Of the whole network, tied ones once.
        unknown: Operators the tracer has no rule for; what they touch is frozen.
        modules: Paths of the modules that hold tensors, in order of execution.
        depths: The layers that can be skipped.
    """

    costs: tuple[Cost, ...]
    macs: int
    parameters: int
    unknown: tuple[str, ...]
    modules: tuple[str, ...]
    depths: tuple[Depth, ...] = ()


def inspect(model: nn.Module, example_inputs: Inputs) -> Inspection:
    """Trace a network and price its dims.

    Args:
        model: Any network that runs.
        example_inputs: Arguments of its forward; the MACs are of this batch.

    Raises:
        SecateursError: The forward pass fails on these inputs.
    """
    with _noting_modules(model) as modules:
        graph = trace(model, example_inputs)
    macs, parameters = graph.macs(), graph.parameters()
    costs = tuple(
        Cost(
            dim,
            graph.saving(name, "macs"),
            graph.saving(name, "parameters"),
            macs - graph.macs({name: 0}),
            parameters - graph.parameters({name: 0}),
        )
        for name, dim in graph.dims.items()
    )
    return Inspection(costs, macs, parameters, tuple(sorted(graph.unknown)), tuple(modules), _depths(graph))


def _depths(graph: Graph) -> tuple[Depth, ...]:
    found = []
    for of in get_args(Kind):
        groups = Layer(of)(graph)
        macs, parameters = (graph.price(groups, currency).unit for currency in ("macs", "parameters"))
        found += [Depth(g.name, of, g.n_units, macs[g.name], parameters[g.name]) for g in groups]
    return tuple(found)


@contextmanager
def _noting_modules(model: nn.Module) -> Iterator[list[str]]:
    """The modules that hold tensors as they are called; in the end those never called follow the one before them."""
    found: dict[str, None] = {}
    hooks = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: found.setdefault(name)))
    order: list[str] = []
    try:
        yield order
    finally:
        for hook in hooks:
            hook.remove()
    called = {name: place for place, name in enumerate(found)}
    holders: list[tuple[int, str]] = []
    last = -1
    for name, module in model.named_modules():
        last = called.get(name, last)
        if any(True for _ in (*module.parameters(recurse=False), *module.buffers(recurse=False))):
            holders.append((last, name))
    order.extend(name for _, name in sorted(holders, key=lambda holder: holder[0]))


def inspect_named(
    name: str, shape: str | None = None, task: TaskName | None = None, trusted: Collection[str] = ()
) -> Inspection:
    """Open a network by name and take it apart.

    Args:
        name: As ``open_model`` takes it; a transformers directory needs no weights unless a task is given.
        shape: Of its inputs, e.g. ``1x3x32x32``.
        task: Gives the example inputs where there is no shape; None: the one an artifact was made for.
        trusted: Functions that may be run to build an artifact.

    Raises:
        SecateursError: No such network, or nothing says what its inputs are.
    """
    task = task or (None if shape else _recorded(name, trusted))
    if task is not None and shape is None:
        opened = open_model(name, trusted=trusted)
        return inspect(opened.model, open_task(task, opened).example_inputs)
    model = open_layout(name, trusted)
    inputs = of_shape(shape) if shape else of_config(model)
    try:
        return inspect(model, inputs)
    except UnknownValueError as error:
        raise SecateursError(f"{error}; with --task the weights are read") from error
    except SecateursError as error:
        if shape is None:
            raise
        raise SecateursError(f"{error} ({SHAPES})") from error


def _recorded(name: str, trusted: Collection[str]) -> TaskName | None:
    """The task of an artifact whose inputs nothing else tells; None for a network that tells them itself."""
    if not (Path(name) / "manifest.json").is_file() or not isinstance(read_build(name), Function):
        return None
    found = recorded_task(name)
    if found is None:
        raise untold(name, trusted)
    return found
