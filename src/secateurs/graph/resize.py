"""The integers in a network's operators once dims are shorter."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn

from secateurs.graph.agreement import difference
from secateurs.graph.network import Factors, Graph, Sizes, Sum
from secateurs.graph.rewrite import Recording, RewriteError
from secateurs.program import Program
from secateurs.types import Inputs

Stays = Mapping[tuple[str, ...], Tensor]
"""Dims, outermost first -> which positions of their product stay."""


def rewritten(
    network: Graph, sizes: Sizes, stays: Stays, holder: nn.Module, inputs: Inputs, expected: Sequence[Tensor]
) -> Program:
    """The operators on shorter tensors, proven by a forward pass.

    Args:
        network: The trace of the dense network, with its recording.
        sizes: New sizes of the dims that shrank.
        stays: Their positions that stay.
        holder: A module with the shorter tensors; the numbers of positions that are picked are added to it.
        inputs: For the proof.
        expected: What the masked network returns for them.

    Raises:
        RewriteError: The recording does not know one of the dims, an integer cannot follow, or the outputs differ.
    """
    program = _resized(network, sizes, stays, holder)
    problem = difference(program, inputs, expected)
    if problem:
        raise RewriteError(f"rewritten as its operators it {problem}")
    return program


def _resized(network: Graph, sizes: Sizes, stays: Stays, holder: nn.Module) -> Program:
    recording = network.recording
    if recording is None:
        raise RewriteError("its operators were not written down")
    for name in sizes:
        if not recording.knows(network, name):
            raise RewriteError(f"the operators know {name} otherwise")
    graph = copy.deepcopy(recording.program.graph)
    for old, node in zip(recording.program.graph.nodes, list(graph.nodes), strict=True):
        for read in list(node.all_input_nodes):
            axes = recording.picks.get(old.name, {}).get(read.name, ())
            node.replace_input_with(read, _picked(recording.network, axes, stays, read, node, holder))
        rule = RULES.get(str(getattr(node.target, "overloadpacket", "")).removeprefix("aten."))
        if rule is not None:
            rule(_Step(node, old, recording, sizes))
    return recording.program.with_graph(graph, holder)


def _picked(
    network: Graph, axes: tuple[Factors, ...], stays: Stays, read: fx.Node, node: fx.Node, holder: nn.Module
) -> fx.Node:
    """What a step reads, at the positions that stay; their numbers are kept as a buffer."""
    for dim, axis in enumerate(axes):
        gone = torch.zeros(network.size(axis), dtype=torch.bool)
        for dims, keep in stays.items():
            unit = network.units(axis, dims)
            gone |= (unit >= 0) & ~keep[unit]
        if gone.any():
            name = f"{node.name}_{read.name}_stays"
            holder.register_buffer(name, (~gone).nonzero().flatten(), persistent=False)
            with node.graph.inserting_before(node):
                stay = node.graph.get_attr(name)
                read = node.graph.call_function(torch.ops.aten.index_select.default, (read, dim, stay))
    return read


@dataclass(frozen=True, slots=True)
class _Step:
    """One operator: its node in the new graph and in the old one, where its axes are known."""

    node: fx.Node
    old: fx.Node
    recording: Recording
    sizes: Sizes

    def axes(self, position: int | None = None) -> tuple[Factors, ...]:
        """Of the first tensor that it makes, or of an argument."""
        node: Any = self.old if position is None else self.old.args[position]
        return self.recording.picks.get(self.old.name, {}).get(node.name) or self.made(node)[0]

    def made(self, node: Any) -> tuple[tuple[Factors, ...], ...]:
        return self.recording.axes[node.name]

    def arg(self, position: int, default: Any = None) -> Any:
        return self.node.args[position] if len(self.node.args) > position else default

    def set(self, position: int, value: Any) -> None:
        self.node.update_arg(position, value)

    def before(self, axis: Factors) -> int:
        return self.recording.network.size(axis)

    def after(self, axis: Factors) -> int:
        return self.recording.network.size(axis, self.sizes)

    def place(self, axis: Factors, position: int) -> int:
        """How many positions before this one stay, where each dim keeps its first ones."""
        return int(self._kept(axis)[:position].sum())

    def _kept(self, axis: Factors) -> Tensor:
        out = torch.ones(1, dtype=torch.bool)
        for factor in axis:
            out = (out[:, None] & self._kept_of(factor)[None, :]).flatten()
        return out

    def _kept_of(self, factor: str | int | Sum) -> Tensor:
        if isinstance(factor, Sum):
            return torch.cat([self._kept(part) for part in factor.parts])
        return torch.arange(self.before((factor,))) < self.after((factor,))


def _scaled(step: _Step, value: Any, before: int, after: int) -> Any:
    """A size that was ``before`` on the example inputs and would be ``after``, which may follow the inputs."""
    if before == after:
        return value
    if isinstance(value, int):
        return after if value == before else value
    graph = step.node.graph
    with graph.inserting_before(step.node):
        product = graph.call_function(operator.mul, (value, after))
        return graph.call_function(operator.floordiv, (product, before))


def _sizes_at(position: int) -> Callable[[_Step], None]:
    """The argument at this position holds the sizes of what is made."""

    def sizes(step: _Step) -> None:
        axes, old = step.axes(), step.arg(position)
        new = [_scaled(step, n, step.before(a), step.after(a)) for n, a in zip(old, axes, strict=True)]
        step.set(position, new)

    return sizes


def _unflatten(step: _Step) -> None:
    dim = step.arg(1) % len(step.axes(0))
    old = step.arg(2)
    axes = step.axes()[dim : dim + len(old)]
    step.set(2, [_scaled(step, n, step.before(a), step.after(a)) for n, a in zip(old, axes, strict=True)])


def _slice(step: _Step) -> None:
    axis = step.axes(0)[step.arg(1, 0) % len(step.axes(0))]
    size = step.before(axis)
    for position in (2, 3):
        at = step.arg(position)
        if isinstance(at, int) and -size <= at <= size and step.after(axis) != size:
            step.set(position, step.place(axis, at % size if at < size else size))


def _select(step: _Step) -> None:
    axis = step.axes(0)[step.arg(1) % len(step.axes(0))]
    at = step.arg(2)
    if isinstance(at, int) and step.after(axis) != step.before(axis):
        step.set(2, step.place(axis, at % step.before(axis)))


def _split(step: _Step) -> None:
    """Pieces of equal size may be so no longer."""
    dim = step.arg(2, 0) % len(step.axes(0))
    axis = step.axes(0)[dim]
    if step.after(axis) != step.before(axis):
        step.node.target = torch.ops.aten.split_with_sizes.default
        step.node.args = (step.arg(0), [step.after(axes[dim]) for axes in step.made(step.old)], dim)
        step.node.kwargs = {}


def _repeat(step: _Step) -> None:
    axes, inner = step.axes(), step.axes(0)
    inner = ((),) * (len(axes) - len(inner)) + tuple(inner)
    times = [
        _scaled(step, n, _ratio(step.before(a), step.before(b)), _ratio(step.after(a), step.after(b)))
        for n, a, b in zip(step.arg(1), axes, inner, strict=True)
    ]
    step.set(1, times)


def _repeat_interleave(step: _Step) -> None:
    dim = step.arg(2)
    if dim is not None:
        a, b = step.axes()[dim], step.axes(0)[dim]
        step.set(
            1, _scaled(step, step.arg(1), _ratio(step.before(a), step.before(b)), _ratio(step.after(a), step.after(b)))
        )


def _ratio(whole: int, part: int) -> int:
    if whole % part:
        raise RewriteError("copies no longer fill what they made")
    return whole // part


def _groups_at(position: int, transposed: bool = False) -> Callable[[_Step], None]:
    """A convolution's groups: its channels over those that one group reads, or writes where it is transposed."""

    def groups(step: _Step) -> None:
        if step.arg(position, 1) != 1:
            channels = step.axes()[-_spatial(step) - 1] if transposed else step.axes(0)[-_spatial(step) - 1]
            step.set(position, _ratio(step.after(channels), step.after(step.axes(1)[1])))

    return groups


def _spatial(step: _Step) -> int:
    return len(step.axes(1)) - 2


def _convolution(step: _Step) -> None:
    _groups_at(8, bool(step.arg(6)))(step)


def _layer_norm(step: _Step) -> None:
    step.set(1, [step.after(axis) for axis in step.axes()[-len(step.arg(1)) :]])


def _group_norm(step: _Step) -> None:
    """What is inside a group stays; there may be fewer groups."""
    channels = step.axes(0)[1]
    step.set(1, _ratio(step.after(channels) * step.arg(1), step.before(channels)))


RULES: MappingProxyType[str, Callable[[_Step], None]] = MappingProxyType(
    {name: _sizes_at(1) for name in ("view", "reshape", "_unsafe_view", "_reshape_alias", "expand", "reshape_")}
    | {name: _sizes_at(1) for name in ("new_zeros", "new_ones", "new_empty", "new_full")}
    | {name: _sizes_at(0) for name in ("zeros", "ones", "full", "empty", "rand", "randn")}
    | {name: _split for name in ("split", "split_with_sizes", "chunk", "unsafe_chunk", "unsafe_split")}
    | {f"conv{n}d": _groups_at(6) for n in (1, 2, 3)}
    | {f"conv_transpose{n}d": _groups_at(6, transposed=True) for n in (1, 2, 3)}
    | {
        "unflatten": _unflatten,
        "slice": _slice,
        "select": _select,
        "repeat": _repeat,
        "repeat_interleave": _repeat_interleave,
        "convolution": _convolution,
        "group_norm": _group_norm,
        "layer_norm": _layer_norm,
        "rms_norm": _layer_norm,
    }
)
"""Operators that hold sizes. Any other keeps its integers; should one of them be a size, the proof fails."""
