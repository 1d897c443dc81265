"""The flow of values through a forward pass: which operator reads what others made, and which module runs it.

A tensor that is written in place holds another value from then on, and so do all that share its memory.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from secateurs.graph.axes import Axis
from secateurs.graph.tensors import ByTensor, memory

LOOKED_AT = frozenset({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape})
"""What torch says of operators whose numbers, or whose number of results, Python may look at."""


@dataclass(frozen=True, slots=True)
class Operator:
    """What torch says of an ATen operator.

    Args:
        name: E.g. ``aten.add``, whatever the overload.
        writes: The places of the arguments that it writes in place.
        is_looked_at: Whether Python may look at its numbers, or at how many results it has.
    """

    name: str
    writes: tuple[int, ...]
    is_looked_at: bool

    @classmethod
    def of(cls, func: Any) -> Operator:
        """Of an overload."""
        infos = [argument.alias_info for argument in func._schema.arguments]
        writes = tuple(i for i, info in enumerate(infos) if info is not None and info.is_write)
        return cls(str(func.overloadpacket), writes, bool(LOOKED_AT & set(func.tags)))


@dataclass(frozen=True, slots=True)
class Step:
    """One operator call.

    Args:
        operator: The ATen operator.
        module: The module whose forward calls it.
        reads: The values that it reads, in order.
        makes: The values that it makes.
        is_product: Whether it multiplies and sums.
    """

    operator: str
    module: str
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    is_product: bool


@dataclass(frozen=True, slots=True)
class Passed:
    """What a module is given, or gives.

    Args:
        value: What it holds, where it is a tensor.
        axes: Its axes, where it is a tensor.
        name: Of an argument: its name.
        position: Of an argument: its place among those given by position.
    """

    value: int | None
    axes: tuple[Axis, ...] = ()
    name: str = ""
    position: int = -1


Output = Passed | None | tuple["Output", ...]


@dataclass(frozen=True, slots=True)
class Visit:
    """One call of a module: its arguments, and its output; ``clear`` where that is tensors, tuples and None alone."""

    arguments: tuple[Passed, ...]
    output: Output
    clear: bool


@dataclass
class Flow:
    """All operator calls of a forward pass, and all calls of modules.

    Args:
        steps: In order.
        visits: Module name -> its calls.
        kinds: Module name -> its class.
        stored: Parameter or buffer name -> its value at the start.
        axes: Value -> the axes of a tensor that a module is given or gives.
        results: The values that the network returns.
        seen: The values that Python may look at on the way, or that outlive the pass in the network's own tensors.
        module: The module that is running.
        has_product: Whether the operator that is being labelled multiplies and sums.
    """

    steps: list[Step] = field(default_factory=list)
    visits: dict[str, list[Visit]] = field(default_factory=dict)
    kinds: dict[str, type] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    axes: dict[int, tuple[Axis, ...]] = field(default_factory=dict)
    results: frozenset[int] = frozenset()
    seen: set[int] = field(default_factory=set)
    module: str = ""
    has_product: bool = False
    _values: ByTensor[int] = field(default_factory=ByTensor)
    _written: dict[int, int] = field(default_factory=dict)
    _lasting: set[int] = field(default_factory=set)
    _last: int = 0

    def store(self, name: str, tensor: Tensor) -> None:
        """A parameter or buffer, before the start."""
        self.stored[name] = self.value(tensor)
        self._lasting.add(self.stored[name])

    def value(self, tensor: Tensor) -> int:
        """The number of what a tensor holds now."""
        found = self._values.get(tensor) or self._fresh(tensor)
        return max(found, self._written.get(memory(tensor), 0)) if self._written else found

    def _fresh(self, tensor: Tensor) -> int:
        self._last += 1
        self._values[tensor] = self._last
        return self._last

    def add(self, operator: Operator, args: Sequence[Any], inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Write an operator call down, after it ran."""
        reads = tuple(dict.fromkeys(map(self.value, inputs)))
        changed = [args[i] for i in operator.writes if i < len(args) and isinstance(args[i], Tensor)]
        values = [self.value(tensor) for tensor in changed]
        lasts = [value in self.seen or value in self._lasting for value in values]
        makes = [self._fresh(tensor) for tensor in changed]
        self._written.update(zip(map(memory, changed), makes, strict=True))
        self.seen.update(value for value, is_lasting in zip(makes, lasts, strict=True) if is_lasting)
        makes += [self._fresh(out) for out in outputs if not any(out is tensor for tensor in changed)]
        if not makes or operator.is_looked_at:
            self.seen.update(reads)
        self.steps.append(Step(operator.name, self.module, reads, tuple(makes), self.has_product))
        self.has_product = False

    def makers(self) -> dict[int, int]:
        """Value -> the step that makes it, by its place."""
        return {value: i for i, step in enumerate(self.steps) for value in step.makes}

    def used(self) -> frozenset[int]:
        """The steps that the results, or what was seen on the way, come from, by their place."""
        makers = self.makers()
        left = [*self.results, *self.seen]
        found: set[int] = set()
        while left:
            at = makers.get(left.pop())
            if at is not None and at not in found:
                found.add(at)
                left += self.steps[at].reads
        return frozenset(found)

    @contextmanager
    def watching(self, model: nn.Module, axes: Callable[[Tensor], tuple[Axis, ...]]) -> Iterator[None]:
        """While open, follows which module is running, and notes what each is given and gives."""
        running: list[tuple[str, list[tuple[Any, Passed]]]] = []
        names: dict[Any, list[str]] = {}

        def passed(thing: Any, name: str = "", position: int = -1) -> Passed:
            if isinstance(thing, Tensor):
                value = self.value(thing)
                self.axes[value] = axes(thing)
                return Passed(value, self.axes[value], name, position)
            return Passed(None, (), name, position)

        def enter(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
                forward = getattr(module.forward, "__func__", module.forward)
                if forward not in names:  # many modules of one class
                    names[forward] = _parameters(module.forward)
                given = [(thing, passed(thing, *where)) for thing, where in _named(names[forward], args, kwargs)]
                running.append((self.module, given))
                self.module = name

            return hook

        def leave(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            name = self.module
            self.module, given = running.pop()
            output, clear = _output(out, given, passed)
            self.visits.setdefault(name, []).append(Visit(tuple(p for _, p in given), output, clear))

        handles = []
        for name, module in model.named_modules():
            self.kinds[name] = type(module)
            if isinstance(module, torch.jit.ScriptModule):
                continue  # it takes no hooks: what it calls counts as its caller's
            handles.append(module.register_forward_pre_hook(enter(name), with_kwargs=True))
            handles.append(module.register_forward_hook(leave, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # a function of the interpreter's own
        return []


def _named(
    names: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[Any, tuple[str, int]]]:
    """Every argument of a call with its name and position."""
    for i, thing in enumerate(args):
        yield thing, (names[i] if i < len(names) else str(i), i)
    for name, thing in kwargs.items():
        yield thing, (name, names.index(name) if name in names else -1)


def _output(out: Any, given: list[tuple[Any, Passed]], passed: Callable[[Any], Passed]) -> tuple[Output, bool]:
    """The form of an output, and whether it is made of tensors, tuples, None, and arguments handed on."""
    if out is None:
        return None, True
    handed_on = next((argument for thing, argument in given if thing is out), None)
    if handed_on is not None:
        return handed_on, True
    if type(out) is tuple:
        items = [_output(item, given, passed) for item in out]
        return tuple(item for item, _ in items), all(clear for _, clear in items)
    return passed(out), isinstance(out, Tensor)
