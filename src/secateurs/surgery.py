"""The only writer of models: masks them, shrinks them, places the values of a shrunk one back.

The oracle: the model with removed entries zeroed, its statistics taken over what stays, and the model physically shrunk
compute the same. Every shrinking is proven so by a forward pass, and with it the repair of what Python keeps of sizes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from secateurs.graph import Graph
from secateurs.graph.agreement import beside, reference
from secateurs.graph.attempts import Progress
from secateurs.graph.attributes import candidates, mirrors, reads
from secateurs.graph.bundles import bundles
from secateurs.graph.numbering import renumbered
from secateurs.graph.precision import Pass
from secateurs.graph.resize import rewritten
from secateurs.graph.rewrite import RewriteError
from secateurs.graph.statistics import passing, staying
from secateurs.graph.trace import state
from secateurs.graph.weightless import has_values
from secateurs.repair import Change, Repair, apply_repairs_, copied, skip_
from secateurs.types import Group, Inputs, Plan, Residual, SecateursError, Skip
from secateurs.vocabulary import Tokens

Positions = Mapping[tuple[str, int], Tensor]
"""(tensor, axis) -> positions that stay, ascending."""


class UnprovenError(SecateursError):
    """The shrunk network does not run, or computes something else than the masked one."""


@dataclass(frozen=True)
class Cut:
    """What a plan takes away: the positions that stay, the dims' new sizes, the modules not run, the tokens that stay.

    Tokens keep their numbers, so that the size of a vocabulary is the old one wherever Python keeps it.
    """

    kept: Positions
    sizes: Mapping[str, int]
    skips: tuple[Skip, ...]
    tokens: tuple[Tokens, ...]


@dataclass(frozen=True)
class Shrunk:
    """A physically smaller network, the modules it does not run, and the attributes changed to make it run.

    ``model`` is a ``Program`` where the network had to be rewritten.
    """

    model: nn.Module
    repairs: tuple[Change, ...]


def masks(model: nn.Module, groups: Iterable[Group], plan: Plan) -> dict[str, Tensor]:
    """Tensor name -> bool mask, True = kept, broadcastable to the tensor; only tensors that lose something."""
    tensors = dict(state(model))
    out: dict[str, Tensor] = {}
    for group in groups:
        keep = plan.keep.get(group.name)
        if keep is None or bool(keep.all()):
            continue
        for member in (m for m in group.members if m.zeroed):
            tensor = tensors[member.tensor]
            mask = member.mask(keep.to(tensor.device), tensor.shape)
            out[member.tensor] = out[member.tensor] & mask if member.tensor in out else mask
    return out


def mask_(model: nn.Module, groups: Iterable[Group], plan: Plan) -> dict[str, Tensor]:
    """Zero what the plan drops, in every member; returns the masks."""
    found = masks(model, groups, plan)
    tensors = dict(state(model))
    with torch.no_grad():
        for name, mask in found.items():
            tensors[name].mul_(mask)
    return found


def positions(model: nn.Module, groups: Iterable[Group], plan: Plan) -> Positions:
    """The positions that stay along every axis that the plan shortens."""
    tensors = dict(state(model))
    dropped: dict[tuple[str, int], Tensor] = {}
    for group in groups:
        keep = plan.keep.get(group.name)
        if keep is None or not group.dims or bool(keep.all()):
            continue
        for member in group.members:
            (axis,) = member.dims
            size = tensors[member.tensor].shape[axis]
            gone = ~member.mask(keep.cpu(), [size if d == axis else 1 for d in range(axis + 1)]).flatten()
            key = (member.tensor, axis)
            dropped[key] = dropped[key] | gone if key in dropped else gone
    return {key: (~gone).nonzero().flatten() for key, gone in dropped.items()}


def dropped_residuals(groups: Iterable[Group], plan: Plan) -> list[Residual]:
    """The layers that a plan skips."""
    return [
        residual
        for group in groups
        if group.residuals and group.name in plan.keep
        for residual, stays in zip(group.residuals, plan.keep[group.name].tolist(), strict=True)
        if not stays
    ]


def sizes_after(groups: Iterable[Group], plan: Plan, network: Graph) -> dict[str, int]:
    """The new size of every dim that a plan shortens."""
    out: dict[str, int] = {}
    for group in groups:
        keep = plan.keep.get(group.name)
        if keep is not None and group.dims:
            outer = prod(network.dims[dim].size for dim in group.dims[:-1])
            size = out[group.dims[-1]] = network.dims[group.dims[-1]].size - int((~keep).sum()) // outer
            least = network.dims[group.dims[-1]].least
            if size < least:
                raise SecateursError(
                    f"{group.name}: {size} of {network.dims[group.dims[-1]].size} stay, but {least} are picked at a "
                    f"time; keep {least} at least"
                )
    return out


def shrink(model: nn.Module, groups: Sequence[Group], plan: Plan, network: Graph, example_inputs: Inputs) -> Shrunk:
    """A new, physically smaller network that computes what the masked one does; ``model`` is left alone.

    Args:
        model: The dense-shaped network.
        groups: Of ``network``; those that cannot be taken away are only masked.
        plan: What stays.
        network: The trace of ``model``.
        example_inputs: For the proof.

    Raises:
        UnprovenError: No repair of the module attributes makes it run and agree with the masked network; nor, where
            ``network`` holds a recording, does its rewriting.
        SecateursError: The network has no weights.
    """
    if not has_values(model):
        raise SecateursError(
            "a network on the meta device has no weights to shrink; load them, and shrink by this plan"
        )
    small = copied(model)
    mask_(small, groups, plan)
    cut = _cut(small, groups, plan, network)
    if not cut.kept and not cut.skips:
        return Shrunk(small, ())
    run = passing(network, groups, plan)
    try:
        return Shrunk(small, _shrink_(small, cut, network, example_inputs, run))
    except UnprovenError as refusal:
        if network.recording is None or cut.skips or cut.tokens:
            raise
        masked = copied(model)
        mask_(masked, groups, plan)
        expected = run(masked, example_inputs)
        _cut_(masked, cut.kept)
        try:
            return Shrunk(rewritten(network, cut.sizes, staying(groups, plan), masked, example_inputs, expected), ())
        except RewriteError as error:
            raise UnprovenError(f"{refusal}; and {error}") from error


def _cut(model: nn.Module, groups: Sequence[Group], plan: Plan, network: Graph) -> Cut:
    kept, sizes = positions(model, groups, plan), sizes_after(groups, plan, network)
    tokens: list[Tokens] = []
    for group, vocabulary in ((g, v) for g in groups for v in network.vocabularies if g.dims == (v.dim,)):
        stay = kept.get((group.members[0].tensor, 0))
        if stay is not None:
            del sizes[vocabulary.dim]
            size = network.dims[vocabulary.dim].size
            modules = (*vocabulary.tables, *vocabulary.outputs)
            tokens += [Tokens(module, tuple(stay.tolist()), size) for module in modules]
    skips = tuple(skip for residual in dropped_residuals(groups, plan) for skip in residual.skips)
    return Cut(kept, sizes, skips, tuple(tokens))


def _shrink_(model: nn.Module, cut: Cut, network: Graph, inputs: Inputs, run: Pass) -> tuple[Change, ...]:
    """Shrink a masked network in place; the repairs that a forward pass has proven."""
    progress = Progress()
    with reads(model) as read, progress.recording():
        masked = reference(model, inputs, run)
    numbers = renumbered(model, cut.skips)
    skip_(model, cut.skips)
    _cut_(model, cut.kept)
    there = {name for name, _ in model.named_modules()}
    tokens = [it for it in cut.tokens if it.module in there]
    apply_repairs_(model, tokens)
    network = network.without(skip.module for skip in cut.skips)
    problems: list[tuple[tuple[int, int], str]] = []
    for repairs in _tries(candidates(model, network, cut.sizes, read, progress), numbers):
        undo = _snapshot(model, repairs)
        apply_repairs_(model, repairs)
        undo = {**_snapshot(model, mirrored := mirrors(model)), **undo}
        apply_repairs_(model, mirrored)
        with progress.following():
            problem = masked.difference(model)
        if not problem:
            return (*cut.skips, *tokens, *repairs, *mirrored)
        problems.append((progress.reached, problem))
        for (module, attribute), value in undo.items():
            setattr(model.get_submodule(module), attribute, value)
    raise UnprovenError(f"the shrunk network {max(problems, key=lambda found: found[0])[1]}")


def _tries(candidates: Iterator[list[Repair]], numbers: list[Repair]) -> Iterator[list[Repair]]:
    """Every candidate, with the layers numbered anew first, then with the numbers that they had."""
    for repairs in candidates:
        yield [*repairs, *numbers]
        if numbers:
            yield repairs


def _cut_(model: nn.Module, kept: Positions) -> None:
    tensors = dict(state(model))
    for (name, axis), stay in kept.items():
        if (tensor := tensors.get(name)) is not None:  # else the whole layer went
            tensor.grad = None
            tensor.data = tensor.data.index_select(axis, stay.to(tensor.device))


def _snapshot(model: nn.Module, repairs: Iterable[Repair]) -> dict[tuple[str, str], object]:
    places = [(repair.module, repair.attribute.split(".")[0]) for repair in repairs]
    return {(module, top): getattr(model.get_submodule(module), top) for module, top in places}


def scatter_(model: nn.Module, small: nn.Module, groups: Sequence[Group], plan: Plan) -> None:
    """Inverse of ``shrink``: place the small network's values back into the dense-shaped one, zero elsewhere."""
    kept, values = positions(model, groups, plan), dict(state(small))
    gone, spared = masks(model, groups, plan), {m.tensor for group in groups for m in group.members if not m.zeroed}
    with torch.no_grad():
        for name, tensor in state(model):
            if name in values:
                placed = spread(values[name], name, tensor.shape, kept)
                if name in spared:  # dropped units keep their values in it
                    here = spread(torch.ones_like(values[name]), name, tensor.shape, kept) > 0
                    placed = torch.where(here, placed, tensor * gone.get(name, True))
                tensor.copy_(placed)
            else:  # the whole layer went
                tensor.zero_()


def spread(values: Tensor, name: str, shape: Sequence[int], kept: Positions) -> Tensor:
    """Zeros of this shape with the values at the positions that stay; an axis that broadcasts is left to do so."""
    for axis, size in enumerate(shape):
        if (stay := kept.get((name, axis))) is not None and values.shape[axis] == len(stay):
            whole = values.new_zeros([*values.shape[:axis], size, *values.shape[axis + 1 :]])
            values = whole.index_copy(axis, stay.to(values.device), values)
    return values


def small_masks(model: nn.Module, groups: Sequence[Group], plan: Plan) -> dict[str, Tensor]:
    """The masks of single weights, in the shapes of the shrunk network."""
    kept = positions(model, groups, plan)
    out: dict[str, Tensor] = {}
    gone = {tensor for residual in dropped_residuals(groups, plan) for tensor in residual.tensors}
    for name, mask in masks(model, [group for group in groups if not group.removable], plan).items():
        if name in gone:
            continue
        out[name] = mask
        for axis in range(mask.dim()):
            if (name, axis) in kept:
                out[name] = out[name].index_select(axis, kept[name, axis].to(mask.device))
    return out


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
            for plan in _trials(some):
                shrink(model, some, plan, network, example_inputs)
        except UnprovenError as error:
            more = "" if network.recording else " (a recipe with `rewrite: true` may shrink it)"
            return f"Python holds its size out of reach: {error}{more}"
        return ""

    by_kind = ([g for g in groups if g.dims], [g for g in groups if g.residuals])  # a layer that went proves no dim
    passed = {group.name for some in by_kind if some for group in beside(some, problem, reasons)}
    return tuple(group for group in groups if not group.removable or group.name in passed), reasons


def _trials(groups: Iterable[Group]) -> Iterator[Plan]:
    """Two plans that drop different numbers, up to half of a block: a size that two groups share shows.

    From groups alike they drop the same.
    """
    for shift in (0, 1):
        seen: Counter[int] = Counter()
        keep: dict[str, Tensor] = {}
        for some in bundles(groups):
            block, multiple = some[0].block, max(group.multiple for group in some)
            steps = -(-block // multiple)
            most = (block - max(group.least for group in some)) // multiple
            gone = min((seen[block] + shift) % max(2, steps // 2 + 1), steps - 1, most)
            seen[block] += 1
            kept = (steps - gone) * multiple
            keep |= {group.name: torch.arange(group.n_units) % block >= block - kept for group in some}
        yield Plan(keep)
