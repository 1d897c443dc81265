"""Where Python holds a size out of reach: the network as its operators, with every size in them known as dims.

``torch.export`` writes the operators of the dense network down; running them under the tracer labels every tensor
between them. Once dims are shorter, the integers in the operators follow: a size of a view is the size of the axis that
it made, the end of a slice is how many positions before it stay. What the operators compute is proven by whoever
shrinks, as any other network is.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from secateurs.graph import naming
from secateurs.graph.axes import Axis, freeze
from secateurs.graph.constants import MADE, Constants
from secateurs.graph.network import Factors, Graph, Sum
from secateurs.graph.rules import rule_for
from secateurs.graph.trace import Trace, run
from secateurs.program import DEVICE, Input, Program, name_of, slots
from secateurs.types import Dim, Inputs, SecateursError

CHECKS = ("aten._assert", "aten.sym_constrain")
"""Operators that only check."""

SIZED = "sized by inputs"
"""What is noted of a step that makes a tensor of a size which the inputs decide."""

Axes = tuple[Factors, ...]


class RewriteError(SecateursError):
    """The network cannot be written down as operators, or these sizes cannot be given to it."""


@dataclass(frozen=True)
class Recording:
    """The operators of a dense network, and what is known of every tensor between them.

    Args:
        program: Of the dense network.
        network: The dims of the program.
        axes: Step -> the axes of each tensor that it makes.
        picks: Step -> those of the steps it reads whose positions can be picked, as no input and no parameter makes
            them -> the axes that they have there.
    """

    program: Program
    network: Graph
    axes: Mapping[str, tuple[Axes, ...]]
    picks: Mapping[str, Mapping[str, Axes]] = field(default_factory=dict)

    def knows(self, network: Graph, dim: str) -> bool:
        """Whether a dim of the network is carried by the same tensors here."""
        known = self.network.carriers.get(dim, ())
        return {place for place in known if place[0] in network.tensors} == set(network.carriers[dim])


def record(model: nn.Module, example_inputs: Inputs) -> Recording:
    """Write a network down as operators.

    The first axis of its inputs may have any size later on, and the others of those with up to three axes, where the
    network allows it. An image keeps its size.

    Args:
        model: Left as it is.
        example_inputs: Arguments of its forward, at the top level tensors and constants.

    Raises:
        RewriteError: ``torch.export`` refuses it, or it uses operators of another library.
    """
    inputs = _bound(model, example_inputs)
    program = _program(model, inputs)
    lifted = {name for name, _, _ in slots(program)} - {name for name, _, _ in slots(model)}
    made: dict[str, Any] = {}
    picked: dict[str, dict[str, tuple[Axis, ...]]] = {}
    found = Trace(constants=Constants(pickable=True))

    class Seeing(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            found.constants.sized = SIZED in n.meta
            out = made[n.name] = super().run_node(n)
            if n.op == "get_attr" and n.target in lifted:
                found.constants.differ[out] = True
            picked[n.name] = _picked(found.constants, n, made)
            return out

    def seen(self: Program, *args: Any) -> Any:
        return Seeing(self, garbage_collect_values=False, graph=self.graph).run(*args, enable_io_processing=False)

    plain, program.run = program.run, seen
    try:
        run(found, program, inputs, rule_for)
    finally:
        program.run = plain
    network = naming.build(program, found)
    names = naming.names_of(program, found)

    def named(axes: Iterable[Axis]) -> Axes:
        return tuple(naming.factors_of(axis, names) for axis in axes)

    axes = {
        step: tuple(named(found.label(t).axes) for t in pytree.tree_leaves(out) if isinstance(t, Tensor))
        for step, out in made.items()
    }
    picks = {step: {read: named(axes) for read, axes in reads.items()} for step, reads in picked.items() if reads}
    return Recording(program, network, axes, picks)


def freed(graph: Graph, recording: Recording) -> Graph:
    """The network with its recording; dims for which numbers are made are free where the operators let them be picked.

    Dims that are one in the operators are one here too, and have its name.
    """
    names: dict[str, str] = {}
    dims: dict[str, Dim] = {}
    for one in (dim for dim in recording.network.dims.values() if dim.frozen is None):
        where = {place for place in recording.network.carriers[one.name] if place[0] in graph.tensors}
        same = [it for it in graph.dims.values() if it.frozen == MADE and where.issuperset(graph.carriers[it.name])]
        held = [place for it in same for place in graph.carriers[it.name]]
        if same and where == {*held} and {it.size for it in same} == {one.size}:
            carriers = tuple(carrier for it in same for carrier in it.carriers)
            names |= {it.name: one.name for it in same}
            dims[same[0].name] = replace(same[0], name=one.name, carriers=carriers, frozen=None, flagged=one.flagged)
    kept = [dims.get(name, dim) for name, dim in graph.dims.items() if name in dims or name not in names]

    def called(axes: tuple[Factors, ...]) -> tuple[Factors, ...]:
        return tuple(_called(axis, names) for axis in axes)

    return replace(
        graph,
        dims={dim.name: dim for dim in kept},
        tensors={name: called(axes) for name, axes in graph.tensors.items()},
        products=tuple(replace(product, axes=called(product.axes)) for product in graph.products),
        recording=recording,
    )


def _called(axis: Factors, names: Mapping[str, str]) -> Factors:
    return tuple(
        Sum(tuple(_called(part, names) for part in factor.parts))
        if isinstance(factor, Sum)
        else names.get(factor, factor)
        if isinstance(factor, str)
        else factor
        for factor in axis
    )


def _picked(constants: Constants, step: fx.Node, made: Mapping[str, Any]) -> dict[str, tuple[Axis, ...]]:
    """The axes that tensors made from nothing had in a step; frozen where it does not read just them."""
    found: dict[str, tuple[Axis, ...]] = {}
    for tensor, axes in constants.uses:
        read = next((node.name for node in step.all_input_nodes if made.get(node.name) is tensor), None)
        if read is None or read in found:
            freeze([node for axis in axes for node in axis], MADE)
        else:
            found[read] = axes
    constants.uses.clear()
    return found


def _bound(model: nn.Module, inputs: Inputs) -> dict[str, Any]:
    """The inputs by the names of the forward's parameters; one example becomes two, as a size of 1 would be fixed."""
    args, kwargs = ((), inputs) if isinstance(inputs, Mapping) else (inputs, {})
    bound = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    parameters = inspect.signature(model.forward).parameters
    found: dict[str, Any] = {}
    for name, value in bound.items():
        if parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        elif parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            raise RewriteError("its forward takes any number of inputs by position")
        else:
            found[name] = value
    for name, value in found.items():
        if not isinstance(value, Tensor | bool | int | float | str | None):
            raise RewriteError(f"its input {name} is no tensor and no constant")
    tensors = [value for value in found.values() if isinstance(value, Tensor)]
    if tensors and all(t.dim() and t.shape[0] == 1 for t in tensors):
        return {name: torch.cat([it, it]) if isinstance(it, Tensor) else it for name, it in found.items()}
    return found


def _program(model: nn.Module, inputs: Mapping[str, Any]) -> Program:
    exported = _exported(model, inputs)
    try:
        lifted: Any = exported.module(check_guards=False)
        names = tuple(Input(n, isinstance(v, Tensor), None if isinstance(v, Tensor) else v) for n, v in inputs.items())
        given = [it.name for it in names if it.given]
        graph = _plain(lifted, given, exported.call_spec.out_spec)
        made = Program(graph, names, model)
        for node in graph.nodes:
            if node.op == "get_attr" and not _has(made, str(node.target)):
                made.register_buffer(str(node.target), getattr(lifted, str(node.target)), persistent=False)
        return made
    except (SecateursError, AttributeError, KeyError) as error:
        raise RewriteError(f"it cannot be written down as operators: {error}") from error


def _has(module: nn.Module, name: str) -> bool:
    holder, _, leaf = name.rpartition(".")
    try:
        return hasattr(module.get_submodule(holder), leaf)
    except AttributeError:
        return False


def _exported(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    every = {n: _free(v, range(v.dim()) if v.dim() < 4 else (0,)) for n, v in inputs.items() if isinstance(v, Tensor)}
    first = {n: _free(v, (0,)) for n, v in inputs.items() if isinstance(v, Tensor)}
    training = [module for module in model.modules() if module.training]
    noise = logging.getLogger("torch")
    level = noise.level
    try:
        model.eval()
        noise.setLevel(logging.CRITICAL)
        for free in (every, first, None):
            shapes = None if free is None else {n: free.get(n) for n in inputs}
            try:
                with torch.no_grad():
                    return torch.export.export(model, (), dict(inputs), dynamic_shapes=shapes, strict=False)
            except Exception as error:  # export fails in as many ways as networks do
                last = error
    finally:
        noise.setLevel(level)
        for module in training:
            module.training = True
    line = (str(last).strip().splitlines() or [""])[0]
    raise RewriteError(f"torch.export refuses it: {type(last).__name__}: {line}") from last


def _free(tensor: Tensor, axes: Sequence[int]) -> dict[int, Any]:
    return {axis: torch.export.Dim.AUTO for axis in axes if tensor.dim()}


def _plain(lifted: Any, given: Sequence[str], out_spec: Any) -> fx.Graph:
    """The operators alone, on placeholders called as the inputs are, with one device; an output of plain data."""
    graph = fx.Graph()
    device = graph.placeholder(DEVICE)
    made: dict[fx.Node, Any] = {}
    inputs = iter([graph.placeholder(name) for name in given])

    def moved(value: Any) -> Any:
        return _mapped(value, made, device)

    for node in lifted.graph.nodes:
        if node.op == "placeholder":
            made[node] = next(inputs) if isinstance(node.meta.get("val"), Tensor) else None
        elif node.op == "get_attr":
            made[node] = graph.create_node("get_attr", node.target, name=node.name)
        elif node.op == "output":
            graph.output(_fields(pytree.tree_unflatten([moved(it) for it in node.args[0]], out_spec)))
        elif node.op == "call_function" and not str(node.target).startswith(CHECKS):
            name_of(node.target)
            kwargs = {key: moved(value) for key, value in node.kwargs.items()}
            made[node] = graph.create_node(
                "call_function", node.target, tuple(map(moved, node.args)), kwargs, node.name
            )
            if any(not isinstance(n, int) for n in getattr(node.meta.get("val"), "shape", ())):
                made[node].meta[SIZED] = True
        elif node.op != "call_function" and node.users:
            raise RewriteError(f"it holds a {node.op} of {node.target}")
    graph.eliminate_dead_code()
    return graph


def _mapped(value: Any, made: Mapping[fx.Node, Any], device: fx.Node) -> Any:
    if isinstance(value, fx.Node):
        return made[value]
    if isinstance(value, torch.device):
        return device
    if isinstance(value, list | tuple):
        return [_mapped(it, made, device) for it in value]
    return value


def _fields(value: Any) -> Any:
    """Nodes and constants in lists and dicts; opaque objects, such as a cache, are state and no result."""
    if value is None or isinstance(value, fx.Node | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _fields(it) for key, it in value.items()}
    if isinstance(value, list | tuple):
        return [_fields(it) for it in value]
    return {key: _fields(it) for key, it in vars(value).items()} if hasattr(value, "__dataclass_fields__") else None
