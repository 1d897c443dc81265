"""The only writer of models: masks them, shrinks them, places the values of a shrunk one back.

The oracle: the model with removed entries zeroed, its statistics taken over what stays, and the model physically shrunk
compute the same. Every shrinking is proven so by a forward pass, and with it the repair of what Python keeps of sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor, nn

from secateurs.graph import Graph
from secateurs.graph.resize import rewritten
from secateurs.graph.rewrite import RewriteError
from secateurs.graph.statistics import passing, placed, staying
from secateurs.graph.trace import state
from secateurs.graph.weightless import has_values
from secateurs.listed import Listed
from secateurs.proof import Cut, Positions, UnprovenError, cut_, shrunk_
from secateurs.repair import Biased, Change, part_, prepare_, twin
from secateurs.types import Facts, Gram, Group, Inputs, Plan, Residual, SecateursError, name_before
from secateurs.vocabulary import Tokens


@dataclass(frozen=True)
class Shrunk:
    """A physically smaller network, the modules it does not run, and the attributes changed to make it run.

    ``model`` is a ``Program`` where the network had to be rewritten.
    """

    model: nn.Module
    repairs: tuple[Change, ...]


def masks(model: nn.Module, groups: Iterable[Group], plan: Plan) -> dict[str, Tensor]:
    """Tensor name -> bool mask, True = kept, broadcastable to the tensor; only tensors that lose something."""
    return masks_of(dict(state(model)), groups, plan)


def masks_of(tensors: Mapping[str, Tensor], groups: Iterable[Group], plan: Plan) -> dict[str, Tensor]:
    """``masks``, of tensors that are at hand."""
    out: dict[str, Tensor] = {}
    for group in groups:
        keep = plan.keep.get(group.name)
        if keep is None or bool(keep.all()):
            continue
        for member in (m for m in group.members if m.zeroed):
            tensor = tensors[member.tensor]
            mask = member.mask(keep.to(tensor.device), tensor.shape)
            out[member.tensor] = _both(out[member.tensor], mask) if member.tensor in out else mask
    return out


def _both(one: Tensor, other: Tensor) -> Tensor:
    # some fifty times faster on bytes than on truth values
    return (one.view(torch.uint8) & other.view(torch.uint8)).view(torch.bool)


def mask_(model: nn.Module, groups: Iterable[Group], plan: Plan) -> dict[str, Tensor]:
    """Zero what the plan drops, in every member; returns the masks."""
    return mask_tensors_(dict(state(model)), groups, plan)


def mask_tensors_(tensors: Mapping[str, Tensor], groups: Iterable[Group], plan: Plan) -> dict[str, Tensor]:
    """``mask_``, of tensors that are at hand."""
    found = masks_of(tensors, groups, plan)
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
        for member in (member for member in group.members if member.unit is None):
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
            dim = network.dims[group.dims[-1]]
            outer = prod(network.dims[name].size for name in group.dims[:-1])
            size = out[dim.name] = dim.size - int((~keep).sum()) // outer
            if size < dim.least:
                raise SecateursError(
                    f"{group.name}: {size} of {dim.size} stay, but {dim.least} are picked at a time; "
                    f"keep {dim.least} at least"
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
    small = tried(model, groups, plan, network, example_inputs)
    part_(small.model, model)
    return small


def tried(model: nn.Module, groups: Sequence[Group], plan: Plan, network: Graph, example_inputs: Inputs) -> Shrunk:
    """As ``shrink``, but what it returns shares memory with ``model``: for who only asks whether it can be done."""
    small = twin(model)
    cut = _cut(small, groups, plan, network)
    if not cut.kept and not cut.skips:
        cut_(small, cut)
        return Shrunk(small, ())
    try:
        return Shrunk(small, shrunk_(small, model, cut, network, example_inputs))
    except UnprovenError as refusal:
        if network.recording is None or cut.skips or cut.tokens or cut.lists:
            raise
        masked = twin(model)
        cut_(masked, replace(cut, kept={}))
        expected = cut.run(masked, example_inputs)
        cut_(masked, cut)
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
    zeros, left = masks(model, groups, plan), masks(model, [group for group in groups if not group.dims], plan)
    lists = tuple(_shorter(groups, plan, network))
    return Cut(zeros, left, kept, sizes, skips, tuple(tokens), lists, passing(network, groups, plan))


def outlined(
    model: nn.Module, groups: Sequence[Group], plan: Plan, network: Graph, added: Iterable[Biased] = ()
) -> nn.Module:
    """The names and shapes of what ``shrink`` would make of a network on the meta device; it is not to be run.

    Args:
        model: On the meta device but for its buffers; left alone.
        groups: Of ``network``.
        plan: What stays.
        network: The trace of ``model``.
        added: Layers that have a bias from here on.
    """
    outline, kept = twin(model), positions(model, groups, plan)
    skips = tuple(skip for residual in dropped_residuals(groups, plan) for skip in residual.skips)
    prepare_(outline, (*skips, *added, *_shorter(groups, plan, network)))
    for name, tensor in state(outline):
        for axis in range(tensor.dim()):
            stay = kept.get((name_before(outline, name), axis))
            if stay is not None:
                tensor.data = tensor.data.index_select(axis, stay.to(tensor.device))
    return outline


def _shorter(groups: Sequence[Group], plan: Plan, network: Graph) -> Iterator[Listed]:
    for group in (group for group in groups if len(group.dims) == 1):
        keep = plan.keep.get(group.name, torch.ones(0))
        for names in network.dims[group.dims[0]].modules if not bool(keep.all()) else ():
            yield Listed(names[0].rpartition(".")[0], tuple(keep.nonzero().flatten().tolist()), len(names))


def scatter_(model: nn.Module, small: nn.Module, groups: Sequence[Group], plan: Plan) -> None:
    """Inverse of ``shrink``: place the small network's values back into the dense-shaped one, zero elsewhere."""
    kept, values = positions(model, groups, plan), {name_before(small, name): tensor for name, tensor in state(small)}
    gone, spared = masks(model, groups, plan), {m.tensor for group in groups for m in group.members if not m.zeroed}
    with torch.no_grad():
        for name, tensor in state(model):
            if name in values:
                placed = spread(values[name], name, tensor.shape, kept)
                if name in spared:  # dropped units keep their values in it
                    here = spread(torch.ones_like(values[name]), name, tensor.shape, kept) > 0
                    placed = torch.where(here, placed, tensor * gone.get(name, True))
                tensor.copy_(placed)
            else:  # the whole module went
                tensor.zero_()


def spread(values: Tensor, name: str, shape: Sequence[int], kept: Positions) -> Tensor:
    """Zeros of this shape with the values at the positions that stay; an axis that broadcasts is left to do so."""
    return placed(values, {axis: kept[name, axis] for axis in range(len(shape)) if (name, axis) in kept}, shape)


def dense_facts(facts: Facts, small: nn.Module, model: nn.Module, kept: Positions) -> Facts:
    """What was found of the small network, in the shapes of the dense one: zero at what is gone."""
    first = {tensor: name for name, tensor in state(model)}
    tensors = dict(model.named_parameters(remove_duplicate=False))
    names = {name: name_before(small, name) for name, _ in small.named_parameters(remove_duplicate=False)}
    left = set(names.values())

    def whole(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        gone = {n: torch.zeros_like(x) for n, x in tensors.items() if found and n not in left}
        here = {names[n]: x for n, x in found.items()}
        return {n: spread(x, first[tensors[n]], tensors[n].shape, kept) for n, x in here.items()} | gone

    def along(where: str, values: Tensor) -> Tensor:
        name, _, axis = where.removesuffix("]").rpartition("[")
        stay, size = kept.get((first[tensors[names[name]]], int(axis))), tensors[names[name]].shape[int(axis)]
        every = range(values.dim())
        return values if stay is None else placed(values, {d: stay for d in every}, [size for _ in every])

    def before(where: str) -> str:
        name, bracket, axis = where.rpartition("[")
        return f"{names[name]}{bracket}{axis}"

    return replace(
        facts,
        gradient=whole(facts.gradient),
        activation_norm=whole(facts.activation_norm),
        activation_variance=whole(facts.activation_variance),
        gram={before(where): Gram(along(where, gram.matrix)) for where, gram in facts.gram.items()},
        output_norm={before(where): along(where, norm) for where, norm in facts.output_norm.items()},
    )


def small_masks(model: nn.Module, small: nn.Module, groups: Sequence[Group], plan: Plan) -> dict[str, Tensor]:
    """The masks of single weights, in the names and shapes of the shrunk network."""
    kept = positions(model, groups, plan)
    out: dict[str, Tensor] = {}
    names = {name_before(small, name): name for name, _ in state(small)}
    for name, mask in masks(model, [group for group in groups if not group.removable], plan).items():
        if name not in names:  # the whole module went
            continue
        left = mask
        for axis in range(mask.dim()):
            if (name, axis) in kept:
                left = left.index_select(axis, kept[name, axis].to(mask.device))
        out[names[name]] = left
    return out
