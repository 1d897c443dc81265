"""A network as the list of its operators: what is left where Python's own code cannot be made smaller.

A program runs ATen operators and the arithmetic of sizes, on tensors under the names that the network gave them. It is
written down as JSON and read back without running code that the file chose: an operator is looked up by name, and
nothing else can be named. It computes as in evaluation mode; it can be trained, without dropout.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from keyword import iskeyword
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn

from secateurs.types import SecateursError

ARITHMETIC: MappingProxyType[str, Callable[..., Any]] = MappingProxyType(
    {f.__name__: f for f in (operator.getitem, operator.mul, operator.add, operator.sub, operator.neg, operator.pow)}
    | {f.__name__: f for f in (operator.floordiv, operator.truediv, operator.mod, math.ceil, math.floor, math.trunc)}
    | {f.__name__: f for f in (torch.sym_min, torch.sym_max, torch.sym_float, torch.sym_int)}
)
"""Python functions that a program may call: arithmetic of sizes, and taking one of several results."""

CONSTANTS = (torch.dtype, torch.layout, torch.memory_format)
DEVICE = "device_of_the_tensors"


class Outputs(dict[str, Any]):
    """What a program returns where the network returned fields: by name, by attribute, or by position."""

    def __getattr__(self, name: str) -> Any:
        """A field."""
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def __getitem__(self, key: str | int) -> Any:
        """A field, or the field at a position."""
        return tuple(self.values())[key] if isinstance(key, int) else super().__getitem__(key)


@dataclass(frozen=True)
class Input:
    """An argument of the network.

    Args:
        name: Of the parameter of its forward.
        given: Whether it is a tensor that is given with each call.
        value: Where it is not: what it was when the operators were written down.
    """

    name: str
    given: bool
    value: Any = None


class Program(nn.Module):
    """Operators and tensors; called as the network was.

    Args:
        graph: Placeholders (the device, then the inputs that are given), operators, tensors by name, and an output of
            lists, dicts and constants.
        inputs: In the order of the network's forward.
        holder: A module with all the tensors; they are shared, tied ones stay tied.
    """

    def __init__(self, graph: fx.Graph, inputs: tuple[Input, ...], holder: nn.Module) -> None:
        super().__init__()
        self.inputs = inputs
        self.graph = graph
        _take_tensors_(self, holder)
        code = graph.python_code("self")
        names = dict(code.globals)
        exec(code.src, names)
        self.run: Callable[..., Any] = names["forward"]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network returned: a tensor, a tuple, or ``Outputs``.

        Raises:
            SecateursError: An argument is missing, or is another constant than the network was written down with.
        """
        device = next((tensor.device for tensor in self.parameters()), torch.device("cpu"))
        given = dict(zip((it.name for it in self.inputs), args, strict=False)) | kwargs
        tensors = [self._given(it, given) for it in self.inputs if it.given]
        constants = {it.name: it.value for it in self.inputs if not it.given}
        for name, value in given.items():
            if value is not None and name not in constants and name not in {it.name for it in self.inputs}:
                raise SecateursError(f"{name} was no input of the network when it was rewritten; leave it out")
            if name in constants and value is not None and value != constants[name]:
                raise SecateursError(f"{name} was {constants[name]!r} when the network was rewritten; leave it so")
        return _opened(self.run(self, device, *tensors))

    @staticmethod
    def _given(it: Input, given: Mapping[str, Any]) -> Tensor:
        value = given.get(it.name)
        if not isinstance(value, Tensor):
            raise SecateursError(f"{it.name} must be given: it was when the network was rewritten")
        return value

    def train(self, mode: bool = True) -> Program:
        """Sets the mode, which changes nothing that a program computes."""
        super().train(mode)
        return self

    def with_graph(self, graph: fx.Graph, holder: nn.Module) -> Program:
        """The same network with other sizes.

        Args:
            graph: Its operators.
            holder: Its tensors; those that only the program has are taken from here.
        """
        made = Program(graph, self.inputs, holder)
        have = {name for name, _, _ in slots(made)}
        for name, kept, tensor in slots(self):
            if name not in have:
                _place_(made, name, tensor, kept)
        return made

    def to_json(self) -> dict[str, Any]:
        """As plain data, all but the tensors."""
        return {
            "buffers": {name: kept for name, kept, it in slots(self) if not isinstance(it, nn.Parameter)},
            "inputs": [{"name": it.name} if it.given else {"name": it.name, "value": it.value} for it in self.inputs],
            "steps": [_step(node) for node in self.graph.nodes if node.op not in ("placeholder", "output")],
            "output": _packed(next(iter(reversed(self.graph.nodes))).args[0]),
        }


def read_program(found: Mapping[str, Any], tensors: Mapping[str, Tensor], ties: Mapping[str, str]) -> Program:
    """The inverse of ``to_json``.

    Args:
        found: What it gave.
        tensors: By name.
        ties: Other names of tensors -> the first.

    Raises:
        SecateursError: It names what is no operator, or is otherwise not as it was written.
    """
    try:
        inputs = tuple(Input(it["name"], "value" not in it, it.get("value")) for it in found["inputs"])
        graph = fx.Graph()
        nodes = {DEVICE: graph.placeholder(DEVICE)}
        for it in inputs:
            if it.given:
                nodes[it.name] = graph.placeholder(_word(it.name))
        for step in found["steps"]:
            nodes[step["name"]] = _read_step(graph, step, nodes)
        graph.output(_unpacked(found["output"], nodes))
        return Program(graph, inputs, _holder(tensors, found["buffers"], ties)).eval()
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SecateursError(f"this is no program of operators as it was written: {error!r}") from error


# ------------------------------------------------------------------------------------------------------------- tensors


def slots(model: nn.Module) -> Iterator[tuple[str, bool, Tensor]]:
    """Every place of a tensor, tied ones included: name, whether ``state_dict`` has it, tensor."""
    for name, module, tensor in places(model):
        yield name, name.rpartition(".")[2] not in module._non_persistent_buffers_set, tensor


def places(model: nn.Module) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Every place that holds a tensor, tied ones included: qualified name, module, tensor."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        for held in (module._parameters, module._buffers):
            for key, tensor in held.items():
                if tensor is not None:
                    yield f"{prefix}.{key}" if prefix else key, module, tensor


def _take_tensors_(program: nn.Module, holder: nn.Module) -> None:
    for name, kept, tensor in slots(holder):
        _place_(program, name, tensor, kept)


def _place_(program: nn.Module, name: str, tensor: Tensor, kept: bool) -> None:
    *path, leaf = name.split(".")
    for step in path:
        if step not in program._modules:
            program.add_module(step, nn.Module())
        program = program.get_submodule(step)
    if isinstance(tensor, nn.Parameter):
        program.register_parameter(leaf, tensor)
    else:
        program.register_buffer(leaf, tensor, persistent=kept)


def _holder(tensors: Mapping[str, Tensor], buffers: Mapping[str, bool], ties: Mapping[str, str]) -> nn.Module:
    """A module with these tensors; buffers are named, and whether ``state_dict`` has them."""
    holder = nn.Module()
    made = {name: it if name in buffers else nn.Parameter(it, it.is_floating_point()) for name, it in tensors.items()}
    for name in (*made, *ties):
        _place_(holder, name, made[ties.get(name, name)], buffers.get(name, True))
    return holder


# --------------------------------------------------------------------------------------------------------- plain data


def _step(node: fx.Node) -> dict[str, Any]:
    if node.op == "get_attr":
        return {"name": node.name, "tensor": node.target}
    kwargs = {"kwargs": {key: _packed(value) for key, value in node.kwargs.items()}} if node.kwargs else {}
    return {"name": node.name, "call": name_of(node.target), "args": [_packed(it) for it in node.args], **kwargs}


def name_of(target: Any) -> str:
    """The name under which a function is called in a program.

    Raises:
        SecateursError: A program cannot call it.
    """
    if isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
        return str(target)
    name = getattr(target, "__name__", "")
    if ARITHMETIC.get(name) is not target:
        raise SecateursError(f"a program cannot call {target}")
    return str(name)


def _read_step(graph: fx.Graph, step: Mapping[str, Any], nodes: Mapping[str, fx.Node]) -> fx.Node:
    if "tensor" in step:
        for part in step["tensor"].split("."):
            _word(f"_{part}")
        return graph.create_node("get_attr", step["tensor"], name=_word(step["name"]))
    args = tuple(_unpacked(it, nodes) for it in step["args"])
    kwargs = {_word(key): _unpacked(value, nodes) for key, value in step.get("kwargs", {}).items()}
    return graph.create_node("call_function", _called(step["call"]), args, kwargs, _word(step["name"]))


def _word(name: str) -> str:
    """A name that may stand in the source text that a program is run from."""
    if not name.isidentifier() or iskeyword(name):
        raise ValueError(f"{name!r} is no name")
    return name


def _called(name: str) -> Callable[..., Any]:
    if name in ARITHMETIC:
        return ARITHMETIC[name]
    namespace, packet, overload = name.split(".")
    found: Any = getattr(getattr(torch.ops.aten, packet), overload)
    if namespace != "aten" or not isinstance(found, torch._ops.OpOverload):
        raise SecateursError(f"{name} is no operator that a program may call")
    return found


def _packed(value: Any) -> Any:
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, list | tuple):
        return [_packed(it) for it in value]
    if isinstance(value, dict):
        return {"fields": {key: _packed(it) for key, it in value.items()}}
    if isinstance(value, CONSTANTS):
        return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise SecateursError(f"a program cannot hold {value!r}")


def _unpacked(value: Any, nodes: Mapping[str, fx.Node]) -> Any:
    if isinstance(value, list):
        return [_unpacked(it, nodes) for it in value]
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    if kind == "node":
        return nodes[inside]
    if kind == "fields":
        return {key: _unpacked(it, nodes) for key, it in inside.items()}
    if kind == "float":
        return float(inside)
    found = getattr(torch, inside)
    if kind != "torch" or not isinstance(found, CONSTANTS):
        raise ValueError(f"{value} is no constant")
    return found


def _opened(value: Any) -> Any:
    """Fields as ``Outputs``, those that are None left out; lists as tuples."""
    if isinstance(value, dict):
        return Outputs({key: _opened(it) for key, it in value.items() if it is not None})
    if isinstance(value, list | tuple):
        return tuple(_opened(it) for it in value)
    return value
