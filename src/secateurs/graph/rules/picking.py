"""What becomes of numbers of positions in an operator: passed on, read to find positions, or told from one another."""

from __future__ import annotations

from secateurs.graph.axes import Axis, factors, freeze
from secateurs.graph.picks import NUMBERED
from secateurs.graph.trace import Call, Rule

PASSES = (
    "view _unsafe_view reshape _reshape_alias squeeze unsqueeze squeeze_ unsqueeze_ flatten unflatten permute "
    "transpose transpose_ t t_ expand repeat select unbind slice split split_with_sizes unsafe_split "
    "unsafe_split_with_sizes unsafe_chunk flip roll clone detach alias _to_copy lift_fresh contiguous dropout "
    "index index_select gather sort"
)
"""Operators whose values are those of their first operand, elsewhere: numbers stay numbers."""

BLIND = "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty aminmax"
"""Operators that do not read the values; of the last one torch asks whether what becomes one-hot is in range."""

COMPARISONS = "eq ne lt le gt ge"


def minded(rule: Rule) -> Rule:
    """The rule, and what becomes of numbers of positions that enter its operator."""

    def wrapped(call: Call) -> None:
        picks = call.trace.picks
        waiting = list(picks.waiting)
        picks.read.clear()
        picks.module = call.trace.flow.module
        rule(call)
        picks.settle(waiting)
        for i, tensor in enumerate(call.inputs()):
            numbered = picks.of(tensor)
            if not numbered or _among(call, BLIND):
                continue
            if i == 0 and _among(call, PASSES):
                for out in call.outputs()[: 1 if call.name == "aten.sort" else None]:
                    picks.give(numbered, out)
            elif not any(tensor is other for other in picks.read) and not _is_equivariant(call, numbered):
                (picks.tell if _is_sought(call) else freeze)(numbered, NUMBERED)

    return wrapped


def _among(call: Call, names: str) -> bool:
    return call.name.removeprefix("aten.") in names.split()


def _is_sought(call: Call) -> bool:
    """Whether one position is looked for among numbers: ``picks == 3``."""
    return _among(call, "eq ne") and isinstance(call.args[1], int)


def _is_equivariant(call: Call, numbered: Axis) -> bool:
    """Whether the answer is the same in new numbers: one is no position's that may go, or both number the same dim."""
    both = [picks for picks in map(call.trace.picks.of, call.inputs()) if factors(picks) == factors(numbered)]
    return _beyond(call, numbered) or (_among(call, "eq ne") and len(both) == 2)


def _beyond(call: Call, numbered: Axis) -> bool:
    """Whether numbers are compared with one that no position has which may go."""
    other = call.args[1] if _among(call, COMPARISONS) else None
    return isinstance(other, int | float) and not call.trace.picks.spoken(numbered, other)
