"""What the tests of the rules share: a network written in one line, and what the tracer saw in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from networks import groups_of, trained_
from secateurs import surgery
from secateurs.graph import Graph, naming
from secateurs.graph.axes import size_of
from secateurs.graph.rules import rule_for
from secateurs.graph.statistics import reference
from secateurs.graph.trace import Call, Rule, Trace, forward, run, state
from secateurs.repair import copied
from secateurs.types import Inputs, Plan

Layer = nn.Module | nn.Parameter | int


class Between(nn.Module):
    """Layers by name, and a forward pass over them."""

    def __init__(self, function: Callable[..., Any], **layers: Layer) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.run = function

    def forward(self, *inputs: Any) -> Any:
        return self.run(self, *inputs)


@dataclass(frozen=True)
class Seen:
    """A traced network."""

    model: nn.Module
    inputs: tuple[Any, ...]
    graph: Graph

    def axis(self, tensor: str, axis: int = 0) -> list[tuple[int, str | None]]:
        """Size, and why it is frozen or flagged, of each dim of one axis of a tensor."""
        where = f"{tensor}[{axis}]"
        return [(dim.size, dim.frozen or dim.flagged) for dim in self.graph.dims.values() if where in dim.carriers]

    def free(self, tensor: str, axis: int = 0) -> list[int]:
        """The sizes of the dims of one axis of a tensor that are neither frozen nor flagged."""
        return [size for size, frozen in self.axis(tensor, axis) if frozen is None]

    def reason(self, tensor: str, axis: int = 0) -> str:
        """Why the only dim of an axis is frozen or flagged; empty where it is free."""
        ((_, frozen),) = self.axis(tensor, axis)
        return frozen or ""

    def role(self, tensor: str, axis: int = 0) -> list[str]:
        where = f"{tensor}[{axis}]"
        return [dim.role for dim in self.graph.dims.values() if where in dim.carriers]

    def same(self, *places: tuple[str, int]) -> bool:
        """Whether these tensor axes are the same dims."""
        return len({tuple(str(factor) for factor in self.graph.tensors[t][axis]) for t, axis in places}) == 1

    def proven(self, *, flagged: bool = False) -> list[str]:
        """The free dims, each of which has been seen to shrink on inputs that surgery never saw."""
        groups = groups_of(self.graph, flagged=flagged)
        for group in groups:
            plan = Plan({group.name: torch.arange(group.n_units) % group.block >= group.multiple})
            small = surgery.shrink(self.model, [group], plan, self.graph, self.inputs).model
            masked = copied(self.model)
            surgery.mask_(masked, [group], plan)
            fresh = tree_map(lambda x: torch.randn_like(x) if x.is_floating_point() else x, self.inputs)
            wanted = reference(masked, fresh, self.graph, [group], plan)
            for mine, theirs in zip(forward(small, fresh), wanted, strict=True):
                assert torch.allclose(mine, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)
        return [group.name for group in groups]


def see(function: Callable[..., Any], *inputs: Any, **layers: Layer) -> Seen:
    """Trace a network, with a look at every label on the way."""
    model = trained_(Between(function, **layers))
    return Seen(model, inputs, trace_checked(model, inputs))


def trace_checked(model: nn.Module, inputs: Inputs) -> Graph:
    """Trace a network; every label on the way, and every axis in the end, has the size of its tensor."""
    found = Trace()
    run(found, model, inputs, checked)
    for tensor, label in found.labels.items():
        assert [size_of(axis) for axis in label.axes] == list(tensor.shape)
    graph = naming.build(model, found)
    for name, tensor in state(model):
        assert [graph.size(axis) for axis in graph.tensors[name]] == list(tensor.shape), name
    return graph


def checked(function: Any) -> Rule | None:
    """The rule of an operator, and after it a look at what it wrote on the outputs."""
    rule = rule_for(function)

    def wrapped(call: Call) -> None:
        assert rule is not None
        rule(call)
        for out in call.outputs():
            assert [size_of(axis) for axis in call.axes(out)] == list(out.shape), call.name

    return wrapped if rule else None


def traced(function: Callable[..., Tensor], x: Tensor, **layers: Layer) -> Graph:
    """The graph of a forward pass over some layers; every operator in it must have a rule."""
    graph = see(function, x, **layers).graph
    assert not graph.unknown, graph.unknown
    return graph


def hidden(function: Callable[[Tensor], Tensor], size: int = 6, after: int | None = None) -> Graph:
    """An expression between two linear layers: ``b(function(a(x)))``; ``after`` is the width that b reads."""
    layers = {"a": nn.Linear(4, size), "b": nn.Linear(after or size, 2)}
    return traced(lambda self, x: self.b(function(self.a(x))), torch.randn(3, 4), **layers)


def free(graph: Graph) -> dict[str, int]:
    """Name -> size of the dims that are neither frozen nor flagged."""
    return {name: dim.size for name, dim in graph.dims.items() if not (dim.frozen or dim.flagged)}


def reason(graph: Graph, name: str) -> str:
    """Why a dim is frozen or flagged."""
    return graph.dims[name].frozen or graph.dims[name].flagged or ""
