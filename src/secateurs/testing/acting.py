"""Checks of the parts that meet a network: structures, recoveries, measures."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from secateurs import surgery
from secateurs.graph import Graph, trace
from secateurs.graph.statistics import reference
from secateurs.graph.trace import forward
from secateurs.select import select
from secateurs.testing.claims import check_spec, generator, require
from secateurs.testing.example import example_model, example_task
from secateurs.types import Group, How, Inputs, Measure, Plan, Reading, Recovery, Structure, Task


def check_structure(structure: Structure, model: nn.Module, inputs: Inputs) -> None:
    """Groups are sound, and the masked network computes what the shrunk one does, for random plans.

    Args:
        structure: The part.
        model: A network in which it finds something; left as it is.
        inputs: Its example inputs.

    Raises:
        AssertionError: It does not conform.
    """
    check_spec("structure", structure)
    model = copy.deepcopy(model).eval()
    network = trace(model, inputs)
    groups = structure(network)
    require(bool(groups), f"{structure} finds nothing in this network")
    _check_groups(structure, groups, dict(_named_tensors(model)))
    again = [(g.name, g.n_units, g.block) for g in structure(network)]
    require(again == [(g.name, g.n_units, g.block) for g in groups], f"{structure} finds other groups again")
    for seed, share in enumerate((0.2, 0.5, 0.8)):
        _check_oracle(structure, model, network, groups, _random_plan(groups, share, seed), inputs)


def check_recovery(recovery: Recovery, model: nn.Module | None = None, task: Task | None = None) -> None:
    """Dropped weights stay zero, the others finite; shapes and modes stay; the same seed heals the same.

    Args:
        recovery: The part.
        model: A small network, or None for one of ours; left as it is. Half of its weights are dropped.
        task: Its data, or None for ours.

    Raises:
        AssertionError: It does not conform.
    """
    check_spec("recovery", recovery)
    model, task = model or example_model(), task or example_task()
    healed = []
    for _ in range(2):
        torch.manual_seed(0)
        tried = copy.deepcopy(model)
        masks = {
            name: torch.rand(p.shape, generator=generator()) < 0.5
            for name, p in tried.named_parameters()
            if p.dim() > 1
        }
        before = copy.deepcopy(masks)
        shapes = {name: t.shape for name, t in tried.state_dict().items()}
        modes = [m.training for m in tried.modules()]
        with torch.no_grad():
            for name, mask in masks.items():
                tried.get_parameter(name).mul_(mask)
        recovery(tried, masks, task, model)
        state = tried.state_dict()
        for name, mask in before.items():
            require(not bool(state[name][~mask].any()), f"{recovery} gives dropped weights of {name} back")
        require(all(torch.equal(before[n], masks[n]) for n in masks), f"{recovery} changes the masks")
        require({n: t.shape for n, t in state.items()} == shapes, f"{recovery} changes shapes")
        require([m.training for m in tried.modules()] == modes, f"{recovery} leaves the model in another mode")
        finite = all(bool(t.isfinite().all()) for t in state.values() if t.is_floating_point())
        require(finite, f"{recovery} leaves values that are not finite")
        healed.append(state)
    same = all(torch.allclose(healed[0][n], healed[1][n], atol=1e-5) for n in healed[0])
    require(same, f"{recovery} heals differently with the same seed")


def check_measure(
    measure: Measure, model: nn.Module | None = None, task: Task | None = None, *, smaller: nn.Module | None = None
) -> None:
    """A reading is a finite number with a unit that says how it was got; counting is exact, and never grows.

    Args:
        measure: The part.
        model: A small network, or None for one of ours; must be left as it is.
        task: Its data, or None for ours.
        smaller: The network with units taken away; what is counted of it must not be more. None for one of ours,
            where the model is ours.

    Raises:
        AssertionError: It does not conform.
    """
    check_spec("measure", measure)
    if model is None and smaller is None:
        smaller = example_model(hidden=5)
    model, task = model or example_model(), task or example_task()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    reading = measure(model, task)
    require(isinstance(reading, Reading), f"{measure} gives {type(reading).__name__}, not a Reading")
    require(math.isfinite(reading.value), f"{measure} reads {reading.value}")
    require(bool(reading.unit) and reading.how in get_args(How), f"{measure} does not say unit and how: {reading}")
    low, high = reading.spread or (reading.value, reading.value)
    require(low <= reading.value <= high, f"{measure} reads {reading.value} outside its own interval {low}..{high}")
    same = all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    require(same and modes == [m.training for m in model.modules()], f"{measure} changes the model")
    if reading.how == "counted":
        require(measure(model, task).value == reading.value, f"{measure} counts another number the second time")
        if smaller is not None and not measure.higher_is_better:
            less = measure(smaller, task).value
            require(
                less <= reading.value, f"{measure} counts {less} in the smaller network, {reading.value} in the other"
            )


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _check_groups(structure: Structure, groups: Sequence[Group], tensors: Mapping[str, Tensor]) -> None:
    require(len({g.name for g in groups}) == len(groups), f"{structure} gives two groups one name")
    for group in groups:
        whole = group.block > 0 and group.n_units == group.n_blocks * group.block
        require(whole, f"{structure}: {group.name} has {group.n_units} units in blocks of {group.block}")
        require(any(m.scored for m in group.members), f"{structure}: nothing of {group.name} can be scored")
        for member in group.members:
            rows, wanted = len(member.cut(tensors[member.tensor])), group.n_units if member.unit is None else 1
            require(rows == wanted, f"{structure}: {member.tensor} has {rows} rows, {group.name} other units")


def _random_plan(groups: Sequence[Group], share: float, seed: int) -> Plan:
    source = generator(seed)
    scores = {g.name: torch.rand(g.n_units, generator=source) for g in groups}
    return select(groups, scores, {g.name: max(g.least, round((1 - share) * g.block)) for g in groups})


def _check_oracle(
    structure: Structure, model: nn.Module, network: Graph, groups: Sequence[Group], plan: Plan, inputs: Inputs
) -> None:
    masked = copy.deepcopy(model)
    found = surgery.mask_(masked, groups, plan)
    for group in groups:
        if not group.removable:
            dropped = ~plan.keep[group.name]
            for name in {m.tensor for m in group.members} & found.keys():
                same = math.isclose(float((~found[name]).double().mean()), float(dropped.double().mean()))
                require(same, f"{structure}: another share of {name} is zeroed than of {group.name} was dropped")
    shrunk = surgery.shrink(model, groups, plan, network, inputs).model
    sizes = [sum(p.numel() for p in m.parameters()) for m in (model, shrunk)]
    removed = any(g.removable and not bool(plan.keep[g.name].all()) for g in groups)
    require(removed == (sizes[1] < sizes[0]), f"{structure}: {sizes[0]} parameters shrink to {sizes[1]}")
    wanted = reference(masked, inputs, network, groups, plan)
    for a, b in zip(wanted, forward(shrunk, inputs), strict=True):
        same = torch.allclose(a, b, rtol=1e-4, atol=1e-5)
        require(same, f"{structure}: the masked and the shrunk network differ by {float((a - b).abs().max()):.2g}")
