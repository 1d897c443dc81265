"""Depth: what can be skipped such that its input is left, found in the flow of one forward pass.

An addition ``x + f`` is a residual one (He et al. 2016) where f is computed from x and for this addition alone. The
modules that compute nothing else are the branch: where they are not run, zeros stand in for f. A block is one of
several like modules that lead the same stream on; where nothing but residual additions lies between its input and its
output, its input stands in for it, else its branches go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from secateurs.graph.axes import Axis, factors, size_of
from secateurs.graph.flow import Flow, Output, Passed, Visit
from secateurs.graph.network import ancestry
from secateurs.graph.reach import Addition, Reach
from secateurs.types import Argument, Residual, Returns, Skip


class _UnfitError(Exception):
    """Nothing can stand in for it."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A residual, and what makes others like it: classes of modules, and the stream that leads around it."""

    residual: Residual
    like: Hashable


def find(flow: Flow) -> tuple[Residual, ...]:
    """The branches and the blocks of a network, in the order in which they run."""
    reach = Reach(flow)
    branches = {addition.step: found for addition in reach.additions if (found := _branch(reach, addition))}
    inner = {a.step: branches[a.step] for a in reach.additions if a.step in branches and not a.inside & branches.keys()}
    blocks = _longest(reach, _blocks(reach, branches))
    return (*_chained(inner.values()), *_chained(blocks))


def streams(flow: Flow) -> Iterator[Axis]:
    """Every axis of what residual additions lead around."""
    for addition in Reach(flow).additions:
        yield from flow.axes.get(addition.x, ())


def _branch(reach: Reach, addition: Addition) -> _Found | None:
    """The modules that compute f alone; None where f is computed by something else too."""
    flow, inside = reach.flow, addition.inside
    owner = _owners(reach, inside)
    modules = tuple(dict.fromkeys(m for i in sorted(inside) if (m := owner[i])))
    if any(owner[i] == "" and flow.steps[i].is_product for i in inside):
        return None
    tensors = _tensors(reach, modules, inside)
    ends = _ends(reach, addition, owner)
    try:
        skips = tuple(Skip(module, _returns(reach, module, module in ends)) for module in modules)
    except _UnfitError:
        return None
    if not tensors or not ends:
        return None
    work = {m: sum(flow.steps[i].is_product for i in inside if owner[i] == m) for m in modules}
    name = max(modules, key=lambda module: work[module])
    kinds = tuple(flow.kinds[module] for module in (addition.module, *modules))
    like = (kinds, _stream(flow.axes.get(addition.x, ())))
    return _Found(Residual(name, "branch", "", skips, tensors), like)


def _owners(reach: Reach, inside: frozenset[int]) -> dict[int, str]:
    """For each step the outermost module that runs it and nothing but such steps; none: an empty name."""
    flow = reach.flow
    counts = Counter(path for i in inside for path in ancestry(flow.steps[i].module))
    whole = {path for path, n in counts.items() if n == reach.total[path] and path in flow.visits}
    names = {flow.steps[i].module for i in inside}
    outermost = {name: next((p for p in reversed([*ancestry(name)]) if p in whole), "") for name in names}
    return {i: outermost[flow.steps[i].module] for i in inside}


def _tensors(reach: Reach, modules: Iterable[str], inside: frozenset[int]) -> tuple[str, ...]:
    """The parameters and buffers of modules; empty where others read one of them too."""
    held = [name for module in modules for name in reach.stored.get(module, ())]
    shared = any(not reach.readers.get(reach.flow.stored[name], frozenset()) <= inside for name in held)
    return () if shared else tuple(held)


def _ends(reach: Reach, addition: Addition, owner: dict[int, str]) -> set[str]:
    """The modules whose output becomes f, whatever happens to it in between."""
    found: set[str] = set()
    waiting = [addition.f]
    while waiting:
        i = reach.maker.get(waiting.pop(), -1)
        if owner.get(i):
            found.add(owner[i])
        elif i in owner:
            waiting += reach.flow.steps[i].reads
    return found


def _returns(reach: Reach, module: str, zero: bool) -> Returns:
    """What stands in for the output of a module: zeros, or what it is given."""
    visits = reach.flow.visits[module]
    (returns, *others) = dict.fromkeys(_stand_in(reach, visit, visit.output, zero) for visit in visits)
    if others or not all(visit.clear for visit in visits):
        raise _UnfitError
    return returns


def _stand_in(reach: Reach, visit: Visit, output: Output, zero: bool) -> Returns:
    if isinstance(output, tuple):
        return tuple(_stand_in(reach, visit, item, zero) for item in output)
    if output is None or (not output.name and output.value not in reach.readers):
        return None
    if output.name:
        return Argument(output.name, output.position)
    tensors = [argument for argument in visit.arguments if argument.value is not None]
    shape = [*map(size_of, output.axes)]
    for argument in (*(t for t in tensors if [*map(size_of, t.axes)] == shape), *tensors):
        return Argument(argument.name, argument.position, zero)
    raise _UnfitError


# -------------------------------------------------------------------------------------------------------- blocks


def _blocks(reach: Reach, branches: dict[int, _Found]) -> Iterator[_Found]:
    """Every module that is run once and can be skipped."""
    additions: dict[str, list[Addition]] = {}
    for addition in reach.additions:
        for path in ancestry(addition.module):
            additions.setdefault(path, []).append(addition)
    for module, held in additions.items():
        visits = reach.flow.visits.get(module, [])
        if len(visits) == 1 and visits[0].clear:
            residual = _whole(reach, module, visits[0], held) or _hollow(reach, module, held, branches)
            stream = _kept(reach, visits[0])
            if residual and stream is not None:
                yield _Found(residual, (reach.flow.kinds[module], stream))


def _kept(reach: Reach, visit: Visit) -> Hashable:
    """The dims of the first tensor that a module returns, where it is given one with the same."""
    made = _main(reach, visit.output)
    streams = {_stream(argument.axes) for argument in visit.arguments if argument.axes}
    return _stream(made.axes) if made and _stream(made.axes) in streams else None


def _main(reach: Reach, output: Output) -> Passed | None:
    """The first tensor of an output that is computed and read."""
    if isinstance(output, tuple):
        return next((found for item in output if (found := _main(reach, item))), None)
    return output if output and not output.name and output.value is not None else None


def _whole(reach: Reach, module: str, visit: Visit, held: Sequence[Addition]) -> Residual | None:
    """A block whose output is its input and residual additions to it."""
    main = _main(reach, visit.output)
    if main is None or main.value is None:
        return None
    by_step = {addition.step: addition for addition in held}
    given = {argument.value: argument for argument in visit.arguments if argument.value is not None}
    value, gone = main.value, set[int]()
    while value not in given:
        addition = by_step.get(reach.maker.get(value, -1))
        if addition is None:
            return None
        gone |= addition.inside | {addition.step}
        value = addition.x
    if sum(module in ancestry(reach.flow.steps[i].module) for i in gone) < reach.total[module]:
        return None
    stream = given[value]
    tensors = _tensors(reach, [module], frozenset(gone))
    try:
        returns = _with_main(_returns(reach, module, False), visit.output, main, stream)
    except _UnfitError:
        return None
    return Residual(module, "block", "", (Skip(module, returns),), tensors) if tensors else None


def _with_main(returns: Returns, output: Output, main: Passed, stream: Passed) -> Returns:
    """The same, with the stream in the place of the main output; nothing else that is computed may be read."""
    if isinstance(returns, tuple) and isinstance(output, tuple):
        return tuple(_with_main(r, o, main, stream) for r, o in zip(returns, output, strict=True))
    if output is main:
        return Argument(stream.name, stream.position)
    if isinstance(output, Passed) and returns is not None and not output.name:
        raise _UnfitError
    return returns


def _hollow(reach: Reach, module: str, held: Sequence[Addition], branches: dict[int, _Found]) -> Residual | None:
    """A block all of whose products lie in its branches."""
    parts = [branches[addition.step].residual for addition in held if addition.step in branches]
    if len(parts) < len(held):
        return None
    inside = frozenset().union(*(addition.inside for addition in held))
    products = sum(reach.flow.steps[i].is_product for i in inside)
    if products < reach.products[module]:
        return None
    skips = tuple(dict.fromkeys(skip for part in parts for skip in part.skips))
    tensors = tuple(dict.fromkeys(tensor for part in parts for tensor in part.tensors))
    return Residual(module, "block", "", skips, tensors)


def _longest(reach: Reach, found: Iterable[_Found]) -> list[_Found]:
    """Of blocks inside each other those that hold the most together; where they hold as much, the shorter ones."""
    like: dict[Hashable, list[_Found]] = {}
    for block in found:
        like.setdefault(block.like, []).append(block)
    taken: dict[str, _Found] = {}
    above: set[str] = set()
    for same in sorted(like.values(), key=lambda same: (-sum(len(b.residual.tensors) for b in same), -len(same))):
        for block in same:
            name = block.residual.name
            if len(same) > 1 and name not in above and taken.keys().isdisjoint(ancestry(name)):
                taken[name] = block
                above.update(ancestry(name))
    return [taken[name] for name in reach.flow.visits if name in taken]


# ------------------------------------------------------------------------------------------------------- chains


def _stream(axes: Sequence[Axis]) -> Hashable:
    """What tells one stream from another: the dims of its axes."""
    return tuple(tuple(map(id, factors(axis))) for axis in axes)


def _chained(found: Iterable[_Found]) -> Iterator[Residual]:
    """Name the chains: the names of their residuals, with a star, or all, where these differ."""
    chains: dict[Hashable, list[Residual]] = {}
    for it in found:
        chains.setdefault(it.like, []).append(it.residual)
    names = [_pattern([residual.name for residual in chain]) for chain in chains.values()]
    for chain, name in zip(chains.values(), names, strict=True):
        clear = name if names.count(name) == 1 else _pattern([residual.name for residual in chain], listed=True)
        yield from (replace(residual, chain=clear) for residual in chain)


def _pattern(names: Sequence[str], listed: bool = False) -> str:
    columns = [dict.fromkeys(column) for column in zip_longest(*(name.split(".") for name in names), fillvalue="")]
    return ".".join(",".join(column) if listed or len(column) == 1 else "*" for column in columns)
