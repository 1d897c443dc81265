"""Which groups can really be taken away: they are, on trial, before anything is decided.

A dim whose size Python holds out of reach, written in the code or shared with a dim that must be free to differ, stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from secateurs.graph import Graph
from secateurs.graph.bundles import Bundle, bundles
from secateurs.proof import UnprovenError
from secateurs.surgery import tried
from secateurs.types import Group, Inputs, Plan

Problem = Callable[[Sequence[Group]], str]
"""Why these groups cannot be shrunk beside each other; empty where they can."""


def provable(
    model: nn.Module, groups: Sequence[Group], network: Graph, example_inputs: Inputs
) -> tuple[tuple[Group, ...], dict[str, str]]:
    """The groups that can really be shrunk, all of them at once and each by another count; and why others cannot.

    Returns:
        The groups that passed, and dim name -> reason for those that did not.
    """
    reasons: dict[str, str] = {}

    def problem(some: Sequence[Group]) -> str:
        try:
            for plan in plans(some):
                tried(model, some, plan, network, example_inputs)
        except UnprovenError as error:
            more = "" if network.recording else " (a recipe with `rewrite: true` may shrink it)"
            return f"Python holds its size out of reach: {error}{more}"
        return ""

    by_kind = ([g for g in groups if g.dims], [g for g in groups if g.residuals])  # a layer that went proves no dim
    passed = {group.name for some in by_kind if some for group in beside(some, problem, reasons)}
    return tuple(group for group in groups if not group.removable or group.name in passed), reasons


def plans(groups: Iterable[Group]) -> Iterator[Plan]:
    """Plans that drop different numbers, up to half of a block: a size that two groups share shows.

    Groups alike drop the same. Where blocks are large, each loses such that an odd number stays, and one plan is
    enough: code that wants sizes divided by something shows. Else every other group loses something in a second plan.
    """
    some = bundles(groups)
    yield _plan(some, 0)
    if any(min(losses) < max(losses) and 0 in losses for losses in map(_losses, some)):
        yield _plan(some, 1)


def _plan(some: Iterable[Bundle], shift: int) -> Plan:
    seen: Counter[int] = Counter()
    keep: dict[str, Tensor] = {}
    for bundle in some:
        block, losses = bundle[0].block, _losses(bundle)
        again = seen[block] // len(losses) if len(losses) > 2 else 0  # so that it is not every third that are equal
        gone = losses[(seen[block] + again + shift) % len(losses)]
        seen[block] += 1
        keep |= {group.name: torch.arange(group.n_units) % block >= gone for group in bundle}
    return Plan(keep)


def _losses(bundle: Bundle) -> list[int]:
    """How much of a block may go on trial, the most first; with nothing where there is little choice."""
    block, multiple = bundle[0].block, max(group.multiple for group in bundle)
    steps = -(-block // multiple)
    most = max(0, min(max(steps // 2, 1), steps - 1, (block - max(group.least for group in bundle)) // multiple))
    odd = [gone for gone in range(most, 0, -1) if (steps - gone) % 2]
    taken = odd if len(odd) > 2 else range(most + 1)
    return [block - (steps - gone) * multiple if gone else 0 for gone in taken]


def beside(some: Sequence[Group], problem: Problem, reasons: dict[str, str]) -> list[Group]:
    """Those that pass beside each other, found by halving; where two halves do not fit, the earlier groups stay."""
    found = problem(some)
    if not found:
        return list(some)
    if len(some) == 1:
        reasons[_key(some[0])] = found
        return []
    middle = len(some) // 2
    left, right = (beside(half, problem, reasons) for half in (some[:middle], some[middle:]))
    if len(left) + len(right) < len(some) and not problem([*left, *right]):
        return [*left, *right]
    for group in right:
        found = problem([*left, group])
        if found:
            reasons[_key(group)] = found
        else:
            left.append(group)
    return left


def _key(group: Group) -> str:
    return group.dims[-1] if group.dims else group.name
