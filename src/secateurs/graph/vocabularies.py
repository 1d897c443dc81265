"""Vocabularies: tables that the network's inputs look rows up in, with the layers that score the same tokens.

The rows of such a table can go although data pick them, and its scores although they are an output, because the network
goes on speaking the old numbers (``secateurs.vocabulary``). That holds where torch's own embedding and linear layers
are all that reads the tensors: whatever is done to numbers before, or to scores after, is done to all of them as ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from secateurs.graph.axes import Node, factors, find, leaves, unify
from secateurs.graph.flow import Flow
from secateurs.graph.trace import Trace
from secateurs.vocabulary import can_shorten

SCORED = "tokens that are gone have no score, where zeros in their place would have one"

CARRIES = (
    "view _unsafe_view reshape alias detach clone contiguous _to_copy copy_ lift_fresh unsqueeze squeeze expand "
    "flatten slice select split unbind t transpose permute cat where masked_fill masked_fill_ clamp clamp_min"
)
"""Operators that hand on the numbers of tokens, or put one in the place of another."""


@dataclass(frozen=True)
class Found:
    """The modules that read the rows of one vocabulary: those that look them up, those that score them."""

    tables: tuple[str, ...]
    outputs: tuple[str, ...]


def free(
    model: nn.Module,
    trace: Trace,
    tensors: Mapping[str, Tensor],
    carriers: Mapping[Node, Sequence[tuple[str, int]]],
) -> dict[Node, Found]:
    """Find the vocabularies and let them shrink; a table and the layer that scores its tokens share one dim.

    Args:
        model: The network.
        trace: Of it.
        tensors: Its parameters and buffers by name.
        carriers: Dim -> every (tensor, axis) that carries it; to be found anew where there are vocabularies.
    """
    held = {leaf: modules for leaf, modules in _held(model, trace, tensors, carriers) if modules}
    tables = {leaf: it for leaf, it in held.items() if it.tables and _is_looked_up(it, leaf, trace.flow)}
    outputs = {leaf: it for leaf, it in held.items() if it.outputs and not it.tables and _is_output(it, leaf, trace)}
    out: dict[Node, Found] = {}
    for leaf, it in tables.items():
        if it.outputs and not _is_output(it, leaf, trace):
            continue
        beside = outputs if not it.outputs and leaf.size == max(table.size for table in tables) else {}
        same = [other for other in beside if other.size == leaf.size and _alike(it, outputs[other], trace)]
        for other in same:
            unify((leaf,), (other,), "")
        root = find(leaf)
        root.frozen, root.multiple = None, 1
        scored = (*it.outputs, *(module for other in same for module in outputs[other].outputs))
        root.flagged = SCORED if scored else None
        out[root] = Found(it.tables, scored)
    return out


def _held(
    model: nn.Module,
    trace: Trace,
    tensors: Mapping[str, Tensor],
    carriers: Mapping[Node, Sequence[tuple[str, int]]],
) -> Iterator[tuple[Node, Found | None]]:
    """Every dim that is the rows of tensors, with the layers that hold these; None where others read them."""
    for leaf, where in carriers.items():
        if not leaf.events & {"vocabulary", "output"}:
            continue
        held = {name: tensors[name] for name, _ in where}
        if all(i == 0 and factors(trace.label(held[name]).axes[0]) == [leaf] for name, i in where):
            yield leaf, _layers(model, trace, held)


def _layers(model: nn.Module, trace: Trace, tensors: dict[str, Tensor]) -> Found | None:
    mine = {id(tensor) for tensor in tensors.values()}
    holders = {
        name: module
        for name, module in model.named_modules()
        if can_shorten(module) and mine & {id(it) for it in module._parameters.values()}
    }
    stored = {trace.flow.stored[name] for name in tensors}
    reading = {step.module for step in trace.flow.steps if stored & set(step.reads)}
    whole = all(id(module.weight) in mine for module in holders.values())
    if not whole or not reading <= holders.keys():
        return None
    tables = tuple(name for name, module in holders.items() if isinstance(module, nn.Embedding))
    return Found(tables, tuple(name for name in holders if name not in tables))


def _is_looked_up(it: Found, leaf: Node, flow: Flow) -> bool:
    """Whether the numbers of its rows are inputs of the network."""
    looks = [step.reads for step in flow.steps if step.module in it.tables and step.operator == "aten.embedding"]
    makers = flow.makers()
    by_input = all(len(reads) == 2 and _is_given(flow, reads[1], makers) for reads in looks)
    return bool(looks) and by_input and "looked up by constants" not in leaf.events


def _is_given(flow: Flow, value: int, makers: Mapping[int, int]) -> bool:
    carries = {f"aten.{name}" for name in CARRIES.split()}
    left, seen = [value], set()
    while left:
        value = left.pop()
        step = flow.steps[makers[value]] if value in makers else None
        if step is None and value not in flow.stored.values():
            return True
        if step is not None and value not in seen and step.operator in carries:
            left += step.reads
        seen.add(value)
    return False


def _is_output(it: Found, leaf: Node, trace: Trace) -> bool:
    """Whether the scores are an output of the network, and no product is taken over them on the way."""
    ours = (c.module for c in trace.contractions if leaf in leaves(*c.axes))
    return "output" in leaf.events and all(module in it.outputs for module in ours)


def _alike(table: Found, output: Found, trace: Trace) -> bool:
    """Whether there is a score of every token at each place where a token is read."""
    read, scored = (
        [visit.arguments[0].axes for name in names for visit in trace.flow.visits.get(name, ()) if visit.arguments]
        for names in (table.tables, output.outputs)
    )
    places = [frozenset(leaves(*axes)) for axes in read]
    made = [frozenset(leaves(*axes[:-1])) for axes in scored]
    return bool(made) and all(place in places for place in made)
