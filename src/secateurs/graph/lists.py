"""Modules in a list of which each belongs to one position of a dim: the experts of a mixture that a router picks.

No tensor holds such modules side by side. What tells is that Python tells the positions of a dim of that size apart by
number, or that they are picked by rank, beside a list of so many like modules. That module i is position i, and that
all can do with fewer, is for a forward pass to prove: of it the trial takes the first ones away, so that every module
that is left has another number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

from torch import Tensor, nn

from secateurs.graph.axes import Axis, Node, factors, flag, freeze, leaves, tag
from secateurs.graph.picks import PICKED
from secateurs.graph.trace import Trace
from secateurs.listed import like_modules

UNREACHED = "the example inputs do not reach its module in a list"
FEW_REACHED = "the example inputs reach fewer than two of the modules that it numbers"
SHARED = "two dims number the same modules"

Lists = tuple[tuple[str, ...], ...]
"""Names of like modules, list by list: one module of each for every position of a dim."""

Carriers = Mapping[Node, Sequence[tuple[str, int]]]


def bind(model: nn.Module, trace: Trace, tensors: Mapping[str, Tensor], carriers: Carriers) -> dict[Node, Lists]:
    """The modules that go with the positions of dims; where there are none, what Python tells apart is frozen.

    Args:
        model: The network.
        trace: Of it.
        tensors: Its parameters and buffers by name.
        carriers: Dim -> every (tensor, axis) that carries it.
    """
    lists = like_modules(model)
    found: dict[Node, Lists] = {}
    for leaf, where in carriers.items():
        flat = all(tensors[name].dim() < 3 for name, _ in where)  # else the experts lie in it, one beside another
        if leaf.frozen is None and "linear" in leaf.events and flat:
            near = _nearest(_numbered(leaf, lists, trace), [name for name, _ in where])
            found |= {leaf: near} if near else {}
    claims = Counter(names for near in found.values() for names in near)
    for leaf, near in found.items():
        if any(claims[names] > 1 for names in near):
            freeze((leaf,), SHARED)
        elif any(len(_reached(names, trace)) < 2 for names in near):
            freeze((leaf,), FEW_REACHED)
    bound = {leaf: near for leaf, near in found.items() if leaf.frozen is None}
    flag(bound, PICKED)
    tag(bound, "picked")
    for axis, reason, _ in trace.picks.told:
        freeze([leaf for leaf in leaves(axis) if leaf not in bound], reason)
    return bound


def _numbered(leaf: Node, lists: Iterable[tuple[str, ...]], trace: Trace) -> Iterator[tuple[str, ...]]:
    """The lists that a dim may number: it is picked by rank, or what tells its positions apart holds the list."""
    told = [f"{module}." if module else "" for axis, _, module in trace.picks.told if leaf in leaves(axis)]
    for names in lists:
        if len(names) == leaf.size and ("picked" in leaf.events or names[0].startswith(tuple(told))):
            yield names


def _nearest(lists: Iterable[tuple[str, ...]], carriers: Iterable[str]) -> Lists:
    """The lists with the longest path in common with the tensors that carry a dim; none that holds one of these."""
    by_distance: dict[int, list[tuple[str, ...]]] = {}
    paths = [carrier.split(".") for carrier in carriers]
    for names in lists:
        container = names[0].split(".")[:-1]
        shared = [_in_common(path, container) for path in paths]
        if max(shared) < len(container):
            by_distance.setdefault(min(shared), []).append(names)
    return tuple(by_distance[max(by_distance)]) if by_distance else ()


def _in_common(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(one, other, strict=False)))


def _reached(names: Iterable[str], trace: Trace) -> set[str]:
    """The modules of which an operator read a tensor."""
    return {name for name in names if any(tensor.startswith(f"{name}.") for tensor in trace.readers)}


def lend_labels_(model: nn.Module, trace: Trace, tensors: Mapping[str, Tensor]) -> None:
    """Let modules in a list that the inputs did not reach have the dims and weights of their likes that were reached.

    What those share with the rest of the network shrinks here too; what is their own stays, as nothing would prove it.

    Args:
        model: The network.
        trace: Of it; gets labels, and weights.
        tensors: Its parameters and buffers by name.
    """
    for names in like_modules(model):
        reached = _reached(names, trace)
        unreached = [name for name in names if name not in reached]
        if reached and unreached:
            example = min(reached)
            others = (tensor for name, tensor in tensors.items() if not name.startswith(f"{example}."))
            shared = frozenset().union(*(trace.label(tensor).carried() for tensor in others))
            for name in unreached:
                _lend(trace, tensors, example, name, shared)


def _lend(trace: Trace, tensors: Mapping[str, Tensor], example: str, name: str, shared: frozenset[Node]) -> None:
    own: dict[Node, Node] = {}

    def lent(axis: Axis) -> Axis:
        return tuple(node if frozenset(leaves((node,))) <= shared else copy(node) for node in factors(axis))

    def copy(node: Node) -> Node:
        if node not in own:
            own[node] = node.child(node.size)
            if node.parts is None:
                own[node].frozen = node.frozen or UNREACHED
            else:
                own[node].parts = [lent(part) for part in node.parts]
        return own[node]

    for tensor, held in tensors.items():
        if tensor.startswith(f"{name}."):
            like = f"{example}{tensor.removeprefix(name)}"
            label = trace.label(tensors[like])
            if like in trace.weights:
                trace.weights[tensor] = replace(trace.weights[like], name=tensor)
            trace.labels[held] = replace(label, axes=tuple(lent(axis) for axis in label.axes))
