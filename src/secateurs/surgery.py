"""The only writer of models: masks them, shrinks them, places the values of a shrunk one back.

The oracle: the model with removed entries zeroed and the model physically shrunk compute the same. Every shrinking is
proven so by a forward pass, which also proves the repair of what Python remembers of sizes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from secateurs.graph import Graph
from secateurs.graph.attributes import candidates, mirrors, reads
from secateurs.graph.trace import forward, state
from secateurs.repair import Repair, apply_repairs_, copied
from secateurs.types import Group, Inputs, Plan, SecateursError

TOLERANCE = 2e-5
"""Largest accepted difference between masked and shrunk outputs, relative to the largest output, in single precision.

Rounding stays some ten times below; a stale size that happens to run shows as more, even in a network not yet trained.
"""

Positions = Mapping[tuple[str, int], Tensor]
"""(tensor, axis) -> positions that stay, ascending."""


class UnprovenError(SecateursError):
    """The shrunk network does not run, or computes something else than the masked one."""


@dataclass(frozen=True)
class Shrunk:
    """A physically smaller network, and the attributes that were changed to make it run."""

    model: nn.Module
    repairs: tuple[Repair, ...]


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
        if keep is None or not group.removable or bool(keep.all()):
            continue
        for member in group.members:
            (axis,) = member.dims
            size = tensors[member.tensor].shape[axis]
            gone = ~member.mask(keep.cpu(), [size if d == axis else 1 for d in range(axis + 1)]).flatten()
            key = (member.tensor, axis)
            dropped[key] = dropped[key] | gone if key in dropped else gone
    return {key: (~gone).nonzero().flatten() for key, gone in dropped.items()}


def sizes_after(groups: Iterable[Group], plan: Plan, network: Graph) -> dict[str, int]:
    """The new size of every dim that a plan shortens."""
    out: dict[str, int] = {}
    for group in groups:
        keep = plan.keep.get(group.name)
        if keep is not None and group.removable:
            outer = prod(network.dims[dim].size for dim in group.dims[:-1])
            out[group.dims[-1]] = int(keep.sum()) // outer
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
        UnprovenError: No repair of the module attributes makes it run and agree with the masked network.
    """
    small = copied(model)
    mask_(small, groups, plan)
    kept = positions(small, groups, plan)
    if not kept:
        return Shrunk(small, ())
    sizes = sizes_after(groups, plan, network)
    trial, inputs = _in_single(small, example_inputs)
    repairs = _shrink_(trial, kept, sizes, network, inputs)
    if trial is not small:
        _cut_(small, kept)
        apply_repairs_(small, repairs)
    return Shrunk(small, repairs)


def _in_single(model: nn.Module, inputs: Inputs) -> tuple[nn.Module, Inputs]:
    """A copy in single precision where the network computes in half, whose rounding would hide a stale size."""
    if not any(_is_half(tensor) for _, tensor in state(model)):
        return model, inputs
    trial = copied(model).float()
    single = tree_map(lambda x: x.float() if isinstance(x, Tensor) and _is_half(x) else x, inputs)
    try:
        forward(trial, single)
    except Exception:  # a precision written into the network: it is proven in that one
        return model, inputs
    return trial, single


def _is_half(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and torch.finfo(tensor.dtype).bits < 32


def _shrink_(
    model: nn.Module, kept: Positions, sizes: Mapping[str, int], network: Graph, inputs: Inputs
) -> tuple[Repair, ...]:
    """Shrink a masked network in place; the repairs that a forward pass has proven."""
    with reads(model) as read:
        expected = forward(model, inputs)
    _cut_(model, kept)
    problem = ""
    for repairs in candidates(model, network, sizes, read):
        undo = _snapshot(model, repairs)
        apply_repairs_(model, repairs)
        mirrored = mirrors(model)
        undo = {**_snapshot(model, mirrored), **undo}
        apply_repairs_(model, mirrored)
        problem = difference(model, inputs, expected)
        if not problem:
            return (*repairs, *mirrored)
        for (module, attribute), value in undo.items():
            setattr(model.get_submodule(module), attribute, value)
    raise UnprovenError(f"the shrunk network {problem}")


def _cut_(model: nn.Module, kept: Positions) -> None:
    tensors = dict(state(model))
    for (name, axis), stay in kept.items():
        tensor = tensors[name]
        tensor.grad = None
        tensor.data = tensor.data.index_select(axis, stay.to(tensor.device))


def _snapshot(model: nn.Module, repairs: Iterable[Repair]) -> dict[tuple[str, str], object]:
    out: dict[tuple[str, str], object] = {}
    for repair in repairs:
        top = repair.attribute.split(".")[0]
        out[repair.module, top] = getattr(model.get_submodule(repair.module), top)
    return out


def difference(model: nn.Module, inputs: Inputs, expected: Sequence[Tensor]) -> str:
    """What is wrong with the outputs, in words; empty where they are ``expected``, as ``forward`` gives them."""
    try:
        got = forward(model, inputs)
    except Exception as error:  # whatever a network of the user's raises on a size it does not expect
        line = (str(error).strip().splitlines() or [""])[0]
        return f"does not run: {type(error).__name__}: {line}"
    numbers = any(_is_inexact(wanted) for wanted in expected)
    for mine, wanted in zip(got, expected, strict=False):
        if mine.shape != wanted.shape:
            return f"returns shape {tuple(mine.shape)}, not {tuple(wanted.shape)}"
        if not _is_inexact(wanted):  # a pick among near-equal numbers may change with their rounding
            if not numbers and not torch.equal(mine, wanted):
                return "picks other positions than the masked one"
        elif not _close(mine, wanted):
            return f"differs from the masked one by {float((mine - wanted).abs().max()):.2g}"
    return "" if len(got) == len(expected) else "returns another number of tensors"


def _is_inexact(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _close(mine: Tensor, wanted: Tensor) -> bool:
    finite = wanted[wanted.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 1.0
    tolerance = max(TOLERANCE, 8 * torch.finfo(wanted.dtype).eps)
    return torch.allclose(mine, wanted, rtol=0.0, atol=tolerance * scale, equal_nan=True)


def scatter_(model: nn.Module, small: nn.Module, groups: Sequence[Group], plan: Plan) -> None:
    """Inverse of ``shrink``: place the small network's values back into the dense-shaped one, zero elsewhere."""
    kept = positions(model, groups, plan)
    values = dict(state(small))
    with torch.no_grad():
        for name, tensor in state(model):
            stay = [
                kept.get((name, axis), torch.arange(size)).to(tensor.device) for axis, size in enumerate(tensor.shape)
            ]
            if any((name, axis) in kept for axis in range(tensor.dim())):
                tensor.zero_()
                tensor[torch.meshgrid(*stay, indexing="ij")] = values[name].to(tensor.dtype)
            else:
                tensor.copy_(values[name])


def small_masks(model: nn.Module, groups: Sequence[Group], plan: Plan) -> dict[str, Tensor]:
    """The masks of single weights, in the shapes of the shrunk network."""
    kept = positions(model, groups, plan)
    out: dict[str, Tensor] = {}
    for name, mask in masks(model, [group for group in groups if not group.removable], plan).items():
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
            return f"Python holds its size out of reach: {error}"
        return ""

    passed = {group.name for group in _passing([g for g in groups if g.removable], problem, reasons)}
    return tuple(group for group in groups if not group.removable or group.name in passed), reasons


Problem = Callable[[Sequence[Group]], str]
"""Why these groups cannot be shrunk beside each other; empty where they can."""


def _passing(some: Sequence[Group], problem: Problem, reasons: dict[str, str]) -> list[Group]:
    """Those that pass beside each other, found by halving; where two halves do not fit, the earlier groups stay."""
    found = problem(some)
    if not found:
        return list(some)
    if len(some) == 1:
        reasons[some[0].dims[-1]] = found
        return []
    middle = len(some) // 2
    left, right = (_passing(half, problem, reasons) for half in (some[:middle], some[middle:]))
    if len(left) + len(right) < len(some) and not problem([*left, *right]):
        return [*left, *right]
    for group in right:
        found = problem([*left, group])
        if found:
            reasons[group.dims[-1]] = found
        else:
            left.append(group)
    return left


def _trials(groups: Iterable[Group]) -> Iterator[Plan]:
    """Two plans that drop from groups alike different numbers, up to half of a block: a size that they share shows."""
    for shift in (0, 1):
        seen: Counter[int] = Counter()
        keep: dict[str, Tensor] = {}
        for group in groups:
            steps = -(-group.block // group.multiple)
            gone = min((seen[group.block] + shift) % max(2, steps // 2 + 1), steps - 1)
            seen[group.block] += 1
            kept = (steps - gone) * group.multiple
            keep[group.name] = torch.arange(group.n_units) % group.block >= group.block - kept
        yield Plan(keep)
