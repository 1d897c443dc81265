"""Which groups can really be taken away: they are, on trial, before anything is decided.

A dim whose size Python holds out of reach, written in the code or shared with a dim that must be free to differ, stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from secateurs.graph import Graph
from secateurs.graph.bundles import Bundle, bundles, paired
from secateurs.proof import UnprovenError
from secateurs.surgery import tried
from secateurs.types import Group, Inputs, Plan, SecateursError, Structure, few

Problem = Callable[[Sequence[Group]], str]
"""Why these groups cannot be shrunk beside each other; empty where they can."""


def provable(
    model: nn.Module, groups: Sequence[Group], network: Graph, example_inputs: Inputs
) -> tuple[tuple[Group, ...], dict[str, str]]:
    """The groups that can really be shrunk, all of them at once and each by another count; and why others cannot.

    Returns:
        The groups that passed, and dim name -> reason for those that did not.
    """
    return _proven(groups, partial(_problem, model, network, example_inputs))


def _proven(groups: Sequence[Group], problem: Problem) -> tuple[tuple[Group, ...], dict[str, str]]:
    reasons: dict[str, str] = {}
    by_kind = (_over_dims(groups), [g for g in groups if g.residuals])  # a layer that went proves no dim
    passed = {group.name for some in by_kind if some for group in beside(some, problem, reasons)}
    return tuple(group for group in groups if not group.removable or group.name in passed), reasons


def shrinkable(
    model: nn.Module, groups: Sequence[Group], network: Graph, example_inputs: Inputs
) -> tuple[tuple[Group, ...], dict[str, str]]:
    """As ``provable``; but groups that cannot lose different shares may lose the same."""
    problem = _remembered(partial(_problem, model, network, example_inputs))

    def with_pairs(names: Iterable[str]) -> tuple[dict[str, Group], list[Group]]:
        pairs = {it.name: it for it in paired([group for group in groups if group.name in names], network)}
        return pairs, [pairs.get(group.name, group) for group in groups]

    pairs, alike = with_pairs([group.name for group in groups])
    # Many layers that are refused for one reason would be as many trials, and those that fail take longest.
    if pairs and problem(_over_dims(groups)) and not problem(_over_dims(alike)):
        return _proven(alike, problem)
    found, reasons = _proven(groups, problem)
    pairs, alike = with_pairs(reasons)
    if not pairs:
        return found, reasons
    left = {name: reason for name, reason in reasons.items() if name not in pairs}
    found, reasons = _proven([it for it in alike if it.name not in left], problem)
    return found, reasons | left


def _remembered(problem: Problem) -> Problem:
    """Each trial is made once, however often it is asked for."""
    said: dict[tuple[tuple[str, str, int], ...], str] = {}

    def ask(some: Sequence[Group]) -> str:
        key = tuple((group.name, group.kind, group.multiple) for group in some)
        if key not in said:
            said[key] = problem(some)
        return said[key]

    return ask


def _over_dims(groups: Iterable[Group]) -> list[Group]:
    return [group for group in groups if group.dims]


def _problem(model: nn.Module, network: Graph, example_inputs: Inputs, some: Sequence[Group]) -> str:
    try:
        for plan in plans(some):
            tried(model, some, plan, network, example_inputs)
    except UnprovenError as error:
        more = "" if network.recording else " (a recipe with `rewrite: true` may shrink it)"
        return f"Python holds its size out of reach: {error}{more}"
    return ""


def plans(groups: Iterable[Group]) -> Iterator[Plan]:
    """Plans that drop different numbers, up to half of a block: a size that two groups share shows.

    Groups alike drop the same share. Where blocks are large, each loses such that an odd number stays, and one plan is
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
        keep |= {it.name: torch.arange(it.n_units) % it.block >= gone * it.block // block for it in bundle}
    return Plan(keep)


def _losses(bundle: Bundle) -> list[int]:
    """How much of the first's block may go on trial, the most first; with nothing where there is little choice."""
    block, multiple = bundle[0].block, bundle[0].multiple
    steps = -(-block // multiple)
    spare = min((group.block - group.least) // group.multiple for group in bundle)
    most = max(0, min(max(steps // 2, 1), steps - 1, spare))
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


def nothing(
    structures: Sequence[Structure], network: Graph, reasons: Mapping[str, str] | None = None
) -> SecateursError:
    """What to say where structures find nothing: why trials failed, or structures say there is none; what is frozen."""
    names = ", ".join(type(structure).__name__.lower() for structure in structures)
    whys = [getattr(structure, "why_none", lambda _: "")(network) for structure in structures]
    frozen = sorted((dim for dim in network.dims.values() if dim.frozen), key=lambda dim: -len(dim.carriers))
    told = f"frozen is {few([f'{dim.name} ({dim.frozen})' for dim in frozen], 2)}" if frozen else ""
    tried = [f"{name} stays: {reason}" for name, reason in (reasons or {}).items()]
    said = "; ".join(filter(None, tried[:1] or whys)) or told or "what is free is kept, or of another kind"
    return SecateursError(
        f"nothing to prune: the network has no free dims for {names}; {said}; `secateurs inspect` shows its dims, and "
        "what is frozen and why"
    )


def _key(group: Group) -> str:
    return group.dims[-1] if group.dims else group.name
