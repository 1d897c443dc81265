"""Trace a network by running it: one forward pass under a dispatch mode that sees every ATen operator.

Whatever runs can be traced; control flow is no problem, as the operators arrive with the very parameter tensors as
arguments. Each tensor gets a label (its axes), each operator's rule unifies the labels of what enters and leaves it. An
operator without a rule freezes the dims that it touches.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from secateurs.graph.axes import Axis, Node, freeze, size_of, tag
from secateurs.graph.constants import MADE, Constants
from secateurs.graph.flow import Flow, Operator
from secateurs.graph.labels import Label, Labels
from secateurs.graph.picks import Picks
from secateurs.graph.tensors import ByTensor, tensors_in
from secateurs.listed import like_modules
from secateurs.repair import left_alone
from secateurs.types import Inputs, SecateursError, Weight


@dataclass(frozen=True, slots=True)
class Contraction:
    """A product summed over an axis: multiply-accumulates = the product of the sizes of these axes."""

    operator: str
    axes: tuple[Axis, ...]
    weight: str | None
    module: str


@dataclass(frozen=True, slots=True)
class Origin:
    """The parameter that a tensor is a view of: axes in another order, cut in several, or broadcast; or a part of it.

    Args:
        name: Of the parameter.
        shape: Of the parameter.
        order: The axis of it that dimension i of the view runs along; -1 where there is none.
        viewed: Whether dimensions are other than the axes.
    """

    name: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    viewed: bool = False

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> Origin:
        """A parameter itself."""
        return cls(name, tuple(tensor.shape), tuple(range(tensor.dim())))


Rule: TypeAlias = Callable[["Call"], None]


@dataclass
class Trace:
    """Everything a forward pass told."""

    labels: Labels = field(default_factory=Labels)
    contractions: list[Contraction] = field(default_factory=list)
    weights: dict[str, Weight] = field(default_factory=dict)
    origins: ByTensor[Origin] = field(default_factory=ByTensor)
    unknown: set[str] = field(default_factory=set)
    spared: dict[tuple[str, int], Axis] = field(default_factory=dict)
    readers: dict[str, set[str]] = field(default_factory=dict)
    flow: Flow = field(default_factory=Flow)
    picks: Picks = field(default_factory=Picks)
    constants: Constants = field(default_factory=Constants)
    tried: dict[tuple[Any, ...], dict[tuple[bool, ...], bool | None]] = field(default_factory=dict)
    claims: list[tuple[int, Axis, str, Callable[[Axis, str], None]]] = field(default_factory=list)

    def label(self, tensor: Tensor) -> Label:
        """The label of a tensor; one never seen was made outside the network's own arithmetic."""
        found = self.labels.get(tensor)
        if found is None:
            found = self.labels[tensor] = Label(tuple((Node(n, MADE),) for n in tensor.shape), fixed=True)
            self.constants.differ[tensor] = True
        return found


@dataclass
class Call:
    """One operator call, as a rule sees it."""

    trace: Trace
    name: str
    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any = None

    def __post_init__(self) -> None:
        """Look for its tensors once, as every rule asks for them."""
        self._inputs = tensors_in((*self.args, *self.kwargs.values()))
        self._outputs: list[Tensor] | None = None

    def arg(self, position: int, name: str, default: Any = None) -> Any:
        """An argument, however it was passed."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def label(self, tensor: Tensor) -> Label:
        return self.trace.label(tensor)

    def axes(self, tensor: Tensor) -> tuple[Axis, ...]:
        return self.label(tensor).axes

    def dirty(self, *tensors: Tensor) -> frozenset[Node]:
        """The leaves that are dirty in any of these tensors."""
        return frozenset().union(*(self.label(t).dirty_leaves() for t in tensors))

    def origin(self, tensor: Tensor) -> Origin | None:
        """The parameter that a tensor is a view of, if it is one."""
        return self.trace.origins.get(tensor)

    def claim(self, axis: Axis, reason: str, mark: Callable[[Axis, str], None]) -> None:
        """Flag, or freeze, an axis over which a statistic is taken, if in the end the results come from it."""
        self.trace.claims.append((len(self.trace.flow.steps), axis, reason, mark))

    def spare(self, tensor: Tensor, dim: int) -> bool:
        """Let removed positions of a parameter keep their values while masked, as zeros break what alone reads it."""
        origin = self.origin(tensor)
        if origin is None or origin.viewed:
            return False
        self.trace.spared[origin.name, origin.order[dim]] = self.axes(tensor)[dim]
        return True

    def inputs(self) -> list[Tensor]:
        """The tensors that enter."""
        return self._inputs

    def outputs(self) -> list[Tensor]:
        """The tensors that leave."""
        if self._outputs is None:
            self._outputs = tensors_in((self.out,))
        return self._outputs

    def give(self, axes: Sequence[Axis], dirty: Iterable[Node] = (), out: Tensor | None = None) -> None:
        """Label an output (the only one unless named)."""
        out = self.outputs()[0] if out is None else out
        fixed = all(self.label(t).fixed for t in self._inputs)
        self.trace.labels[out] = Label(tuple(axes), frozenset(dirty), fixed)
        if any(t is out for t in self._inputs):
            self.trace.labels.written(out)

    def contract(self, *axes: Axis, weight: str | None = None) -> None:
        """Count the multiply-accumulates of a contraction over these axes."""
        self.trace.contractions.append(Contraction(self.name, axes, weight, self.trace.flow.module))
        self.trace.flow.has_product = True

    def give_unknown(self, reason: str) -> None:
        """Freeze what enters; what leaves is new and frozen."""
        for tensor in self.inputs():
            for axis in (*self.axes(tensor), self.trace.picks.of(tensor)):
                freeze(axis, reason)
        for out in self.outputs():
            known = [size_of(axis) for axis in self.axes(out)] if any(t is out for t in self.inputs()) else None
            if known != list(out.shape):
                self.give([(Node(n, reason),) for n in out.shape], out=out)


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs every operator, then lets its rule label what came out."""

    def __init__(self, trace: Trace, rules: Callable[[Any], Rule | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = trace
        self.rules = rules
        self._met: dict[Any, tuple[Operator, Rule | None]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in self._met:
            self._met[func] = Operator.of(func), self.rules(func)
        operator, rule = self._met[func]
        call = Call(self.trace, operator.name, func, args, kwargs or {})
        out = call.out = self.compute(call)
        if func.namespace == "prim":  # Python asks where a tensor lies
            return out
        if rule is None:
            self.trace.unknown.add(call.name)
            call.give_unknown(f"operator {call.name} has no rule")
        else:
            rule(call)
        for origin in filter(None, map(call.origin, call.inputs())):
            self.trace.readers.setdefault(origin.name, set()).add(call.name)
        self.trace.flow.add(operator, args, call.inputs(), call.outputs())
        return out

    def compute(self, call: Call) -> Any:
        """What the operator gives."""
        return call.func(*call.args, **call.kwargs)


@contextmanager
def unswept() -> Iterator[None]:
    """While open, Python looks for no rubbish: what a pass writes down lives on, and each look at it costs a pass."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def state(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer once, by its first name; buffers that are not saved included."""
    seen: set[int] = set()
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


def results(out: Any) -> Iterator[Tensor]:
    """The tensors that a network returns; opaque objects, such as a cache, are state and no result."""
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, Mapping):
        yield from results(tuple(out.values()))
    elif isinstance(out, tuple | list):
        for item in out:
            yield from results(item)
    elif is_dataclass(out):
        yield from results([getattr(out, entry.name) for entry in fields(out)])


def forward(model: nn.Module, inputs: Inputs) -> tuple[Tensor, ...]:
    """One forward pass in evaluation mode without gradients, on the model's device; the model is left as it was.

    Random numbers are the same in every pass.
    """
    device = next((t.device for _, t in state(model)), torch.device("cpu"))
    inputs = tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, inputs)
    with left_alone(model), torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        (torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed)(0)  # the latter is slow
        model.eval()
        return tuple(results(model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)))


def run(trace: Trace, model: nn.Module, inputs: Inputs, rules: Callable[[Any], Rule | None]) -> None:
    """Trace one forward pass; the model is left as it was."""
    for name, tensor in state(model):
        trace.labels[tensor] = Label(tuple((Node(n),) for n in tensor.shape), fixed=True)
        trace.origins[tensor] = Origin.of(name, tensor)
        trace.flow.store(name, tensor)
    trace.picks.listed = frozenset(map(len, like_modules(model)))
    with trace.flow.watching(model, lambda tensor: trace.label(tensor).axes):
        outputs = follow(Tracer(trace, rules), model, inputs)
        trace.flow.results = frozenset(map(trace.flow.value, outputs))
    if not outputs:
        raise SecateursError("the model returns no tensor; return one, or a dict, tuple or dataclass that holds some")
    used = trace.flow.used()
    for axis, reason, mark in ((axis, reason, mark) for step, axis, reason, mark in trace.claims if step in used):
        mark(axis, reason)
        tag(axis, "statistic")
    trace.picks.settle(list(trace.picks.waiting))
    for axis in (axis for out in outputs for axis in (*trace.label(out).axes, trace.picks.of(out))):
        freeze(axis, "an output of the model")
        tag(axis, "output")
    for (name, _), axis in trace.spared.items():
        if len(trace.readers[name]) > 1:
            freeze(axis, f"{min(trace.readers[name])} and another operator read it, and zeros break one")


def follow(tracer: Tracer, model: nn.Module, inputs: Inputs) -> tuple[Tensor, ...]:
    """One forward pass under a tracer, which knows the parameters already; the inputs are labelled here."""

    def mark(x: Any) -> Any:
        if isinstance(x, Tensor):
            x = x.view_as(x)  # a fresh object, should the user pass a parameter or one tensor twice
            tracer.trace.labels[x] = Label(tuple((Node(n, "an input of the model"),) for n in x.shape))
        return x

    marked = tree_map(mark, inputs)
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operator would hide the whole layer
    try:
        with tracer:
            return forward(model, marked)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
