"""From a trace to a network of named dims: each dim is called by the parameters that carry it and by what it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count, pairwise, takewhile

from torch import Tensor, nn

from secateurs.graph import lists, residuals, vocabularies
from secateurs.graph.axes import Axis, Node, factors, leaves, tag
from secateurs.graph.labels import Label
from secateurs.graph.network import Factors, Graph, Product, Sum, Vocabulary
from secateurs.graph.trace import Trace, state
from secateurs.types import Dim, Weight

Carriers = dict[Node, list[tuple[str, int]]]

IN_HEADS = frozenset({"batched", "inside heads"})
"""What happens to the dims of heads alone; but some networks read the residual stream itself by heads."""


def build(model: nn.Module, trace: Trace) -> Graph:
    """Name what the trace found."""
    tensors = dict(state(model))
    lists.lend_labels_(model, trace, tensors)
    labels = {name: trace.label(tensor) for name, tensor in tensors.items()}
    carriers = _carriers(labels)
    tokens = vocabularies.free(model, trace, tensors, carriers)
    if tokens:  # tables and the layers that score are one
        carriers = _carriers(labels)
    listed = lists.bind(model, trace, tensors, carriers)
    _freeze_untouchable(carriers, tensors, labels)
    _find_query_groups(labels.values())
    for axis in (axis for label in labels.values() for axis in label.axes):
        _mark_inside_heads(axis)
    _find_streams(trace, carriers)
    names = _names(carriers)

    def convert(axis: Axis) -> Factors:
        return factors_of(axis, names)

    dims = {
        names[leaf]: Dim(
            names[leaf],
            leaf.size,
            _role(leaf),
            tuple(f"{t}[{i}]" for t, i in where),
            leaf.frozen,
            leaf.multiple,
            leaf.flagged,
            leaf.least,
            listed.get(leaf, ()),
        )
        for leaf, where in carriers.items()
    }
    return Graph(
        dims=dims,
        tensors={name: tuple(convert(axis) for axis in label.axes) for name, label in labels.items()},
        weights=tuple(_weight(trace, name) for name in tensors if name in trace.weights),
        products=tuple(
            Product(c.operator, tuple(convert(axis) for axis in c.axes), c.weight, c.module) for c in trace.contractions
        ),
        trainable=frozenset(name for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter)),
        unknown=frozenset(trace.unknown),
        spared=frozenset(trace.spared),
        residuals=residuals.find(trace.flow),
        vocabularies=tuple(Vocabulary(names[leaf], it.tables, it.outputs) for leaf, it in tokens.items()),
    )


def _weight(trace: Trace, name: str) -> Weight:
    return replace(trace.weights[name], looked_up="aten.embedding" in trace.readers.get(name, ()))


def names_of(model: nn.Module, trace: Trace) -> dict[Node, str]:
    """The names that ``build`` gave."""
    return _names(_carriers({name: trace.label(tensor) for name, tensor in state(model)}))


def factors_of(axis: Axis, names: Mapping[Node, str]) -> Factors:
    """An axis as plain data."""
    return tuple(
        Sum(tuple(factors_of(part, names) for part in node.parts))
        if node.parts is not None
        else names.get(node, node.size)
        for node in factors(axis)
    )


def _carriers(labels: Mapping[str, Label]) -> Carriers:
    found: Carriers = {}
    for name, label in labels.items():
        for i, axis in enumerate(label.axes):
            for leaf in dict.fromkeys(leaves(axis)):
                found.setdefault(leaf, []).append((name, i))
    return found


def _freeze_untouchable(carriers: Carriers, tensors: Mapping[str, Tensor], labels: Mapping[str, Label]) -> None:
    for leaf, where in carriers.items():
        held = [tensors[name] for name, _ in where]
        reason = None
        if not leaf.events:
            reason = "no operator that can shrink it reads it"
        elif not any(isinstance(tensor, nn.Parameter) for tensor in held):
            reason = "no parameter carries it"
        elif not all(tensor.is_floating_point() for tensor in held):
            reason = "integers index it"
        elif any(max(Counter(_in_one_product(labels[name].axes[i])).values()) > 1 for name, i in where):
            reason = "it multiplies itself along one axis"
        leaf.frozen = leaf.frozen or reason


def _in_one_product(axis: Axis) -> list[Node]:
    """The leaves of an axis, with repetitions where a leaf is a factor of itself; parts of a sum count once."""
    out: list[Node] = []
    for node in factors(axis):
        out += [node] if node.parts is None else list(dict.fromkeys(leaves((node,))))
    return out


def _role(leaf: Node) -> str:
    """What a dim is for, from what happened to it."""
    reason = leaf.frozen or ""
    told: tuple[tuple[bool, str], ...] = (
        (reason == "an input of the model", "input"),
        (reason == "an output of the model", "output"),
        (reason == "a kernel position", "kernel"),
        ("vocabulary" in leaf.events, "vocabulary"),
        (leaf.frozen is None and {"picked", "linear"} <= leaf.events, "experts"),
        ("statistic" in leaf.events and ("stream" in leaf.events or not IN_HEADS & leaf.events), "width"),
        ("query group" in leaf.events, "query_group"),
        ("shared by queries" in leaf.events, "kv_heads"),
        ("batched" in leaf.events, "heads"),
        ({"inner", "ranked"} <= leaf.events, "positions"),
        ({"inner", "inside heads"} <= leaf.events, "head_dim"),
        ("grouped" in leaf.events, "channel_groups"),
        ("conv" in leaf.events, "channels"),
        (bool({"linear", "inner"} & leaf.events), "neurons"),
    )
    return next((role for holds, role in told if holds), "other")


def _names(carriers: Carriers) -> dict[Node, str]:
    prefix = {leaf: _common([_module(tensor) for tensor, _ in where]) for leaf, where in carriers.items()}
    roles = {leaf: _role(leaf) for leaf in carriers}
    attention = bool({"heads", "kv_heads"} & set(roles.values()))

    def by_prefix(leaf: Node) -> str:
        if not prefix[leaf]:
            return by_first(leaf)
        return f"{prefix[leaf]}.{'ffn' if attention and roles[leaf] == 'neurons' else roles[leaf]}"

    def by_first(leaf: Node) -> str:
        module = _module(carriers[leaf][0][0])
        return f"{module}.{roles[leaf]}" if module else roles[leaf]

    def by_axis(leaf: Node) -> str:
        tensor, axis = carriers[leaf][0]
        return f"{tensor}[{axis}]"

    plain = [leaf for leaf in carriers if roles[leaf] in {"other", "kernel"}]
    names = _unique(plain, [by_axis])
    others = [leaf for leaf in carriers if leaf not in names]
    return names | _unique(others, [by_prefix, by_first], frozenset(names.values()))


def _unique(
    nodes: Sequence[Node], namers: Sequence[Callable[[Node], str]], given: frozenset[str] = frozenset()
) -> dict[Node, str]:
    """Give each node the first namer's name that nobody else has; at last, number them."""
    proposed = {node: namers[0](node) for node in nodes}
    wanted = Counter(proposed.values())
    names = {node: name for node, name in proposed.items() if wanted[name] == 1 and name not in given}
    taken = {*given, *names.values()}
    clashing = [node for node in nodes if node not in names]
    if len(namers) > 1:
        return names | _unique(clashing, namers[1:], frozenset(taken))
    for node in clashing:
        names[node] = next(name for i in count(1) if (name := f"{proposed[node]}.{i}") not in taken)
        taken.add(names[node])
    return names


def _module(tensor: str) -> str:
    return tensor.rpartition(".")[0]


def _common(paths: Iterable[str]) -> str:
    """The longest module path that all paths begin with."""
    levels = zip(*(path.split(".") for path in paths), strict=False)
    return ".".join(names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels))


def _mark_inside_heads(axis: Axis, inside: bool = False) -> None:
    """Tell the dims of a head from those of a product that has no heads, as a state-space model's."""
    for node in factors(axis):
        for part in node.parts or ():
            _mark_inside_heads(part, inside)
        if inside:
            tag((node,), "inside heads")
        inside = inside or any("batched" in leaf.events for leaf in leaves((node,)))


def _find_streams(trace: Trace, carriers: Carriers) -> None:
    """Tell the normed dims of heads from those of a residual stream."""
    if any("statistic" in leaf.events and IN_HEADS & leaf.events for leaf in carriers):
        for axis in residuals.streams(trace.flow):
            tag(axis, "stream")


def _find_query_groups(labels: Iterable[Label]) -> None:
    """A head dim that was expanded, directly inside another, is a query group; the other is the key-value heads."""
    for label in labels:
        for axis in label.axes:
            nodes = factors(axis)
            for outer, inner in pairwise(nodes):
                if {"batched", "expanded"} <= inner.events and "batched" in outer.events:
                    outer.events.add("shared by queries")
                    inner.events.add("query group")
