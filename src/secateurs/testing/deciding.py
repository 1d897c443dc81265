"""Checks of the parts that decide: criteria, choosers, allocations, schedules."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, get_args

import torch
from torch import Tensor

from secateurs.testing.claims import check_spec, generator, require
from secateurs.types import Allocation, Chooser, Criterion, Gram, Group, Need, Price, Rows, Schedule

_UNITS, _DEAD = 12, 7


def check_criterion(criterion: Criterion, *, equivariant: bool = True) -> None:
    """Scores are one finite number per unit; the same each time; they follow the units; a dead unit is the lowest.

    Args:
        criterion: The part. It is called with what it needs and with nothing else.
        equivariant: Whether units in another order must get the same scores in that order; not so for chance.

    Raises:
        AssertionError: It does not conform.
    """
    check_spec("criterion", criterion)
    require(criterion.needs <= set(get_args(Need)), f"{criterion} needs {set(criterion.needs)}, not all of them known")
    for widths in ((1,), (5, 1, 3)):
        rows = _rows(criterion.needs, widths)
        before = copy.deepcopy(rows)
        scores = criterion(rows)
        require(scores.shape == (_UNITS,), f"{criterion} gives shape {tuple(scores.shape)} for {_UNITS} units")
        require(scores.is_floating_point() and bool(scores.isfinite().all()), f"{criterion} gives no finite floats")
        require(torch.equal(scores, criterion(rows)), f"{criterion} gives other scores the second time")
        require(all(map(_same_rows, before, rows)), f"{criterion} changes the rows that it is given")
        order = torch.randperm(_UNITS, generator=generator())
        moved = criterion([_reordered(r, order) for r in rows])
        same = torch.allclose(moved, scores[order], rtol=1e-4, atol=1e-6)
        require(same or not equivariant, f"{criterion} scores units by where they stand")
        lowest = bool((scores[_DEAD] <= scores).all())
        require(lowest, f"{criterion} does not rank a unit whose weights are all zero lowest")


def check_chooser(chooser: Chooser) -> None:
    """Exactly the number asked for stays in every block; nothing that is gone; the same each time.

    Raises:
        AssertionError: It does not conform.
    """
    check_spec("chooser", chooser)
    require(chooser.needs <= set(get_args(Need)), f"{chooser} needs {set(chooser.needs)}, not all of them known")
    for widths, block, kept in (((1,), _UNITS, 5), ((5, 1, 3), _UNITS, 10), ((5, 1, 3), 4, 2), ((1,), _UNITS, _UNITS)):
        rows = _rows(chooser.needs, widths)
        for gone in ([], [0, 9]) if kept < block else ([],):
            scores = torch.rand(_UNITS, generator=generator())
            scores[gone] = -torch.inf
            before = copy.deepcopy((rows, scores))
            said = f"{chooser}, asked for {kept} of every {block},"
            keep = chooser(rows, scores, block, kept)
            require(keep.dtype == torch.bool and keep.shape == (_UNITS,), f"{said} gives no bool for each unit")
            require(bool((keep.view(-1, block).sum(1) == kept).all()), f"{said} keeps another number")
            require(not (keep & (scores == -torch.inf)).any(), f"{said} brings back what is gone")
            require(torch.equal(keep, chooser(rows, scores, block, kept)), f"{said} chooses others the second time")
            left = all(map(_same_rows, before[0], rows)) and torch.equal(before[1], scores)
            require(left, f"{said} changes what it is given")


def check_allocation(allocation: Allocation) -> None:
    """Counts lie in the block, reach the sparsity without a slice too many, and fall as the sparsity rises.

    What a group states holds: multiples are kept, and groups alike keep the same share.

    Raises:
        AssertionError: It does not conform.
    """
    check_spec("allocation", allocation)
    source = generator()
    free = ([(1, 40)], [(1, 16), (3, 10), (20, 8)], [(1, 8), (1, 200), (2, 50), (5, 20)])
    constrained = ((1, "same"), (4, ""), (6, "same"))
    cases = [([(*sizes, 1) for sizes in blocks], "") for blocks in free]
    cases += [([(1, 64, multiple), (2, 40, multiple), (3, 64, multiple)], alike) for multiple, alike in constrained]
    cases += [([(1, 32, 1), (2, 64, 2), (1, 40, 1)], "same")]
    for blocks, alike in cases:
        groups = [
            Group(f"g{i}", n * block, (), block, multiple=multiple, alike=alike)
            for i, (n, block, multiple) in enumerate(blocks)
        ]
        scores = {g.name: torch.rand(g.n_units, generator=source) * (i + 1) for i, g in enumerate(groups)}
        price = Price.linear(groups, {g.name: float(1 + 3 * i) for i, g in enumerate(groups)})
        before = copy.deepcopy(scores)
        previous = {g.name: g.block for g in groups}
        for sparsity in (0.0, 0.1, 0.25, 0.5, 0.6):
            counts = dict(allocation(groups, scores, sparsity, price))
            _check_counts(allocation, groups, counts, sparsity, price)
            fallen = all(counts[name] <= previous[name] for name in counts)
            require(fallen, f"{allocation} keeps more somewhere at sparsity {sparsity} than at less")
            again = dict(allocation(groups, scores, sparsity, price))
            require(counts == again, f"{allocation} gives other counts the second time")
            previous = counts
        require(all(torch.equal(before[n], scores[n]) for n in scores), f"{allocation} changes the scores")


def check_schedule(schedule: Schedule) -> None:
    """The sparsities rise from above the start to exactly the target.

    Raises:
        AssertionError: It does not conform.
    """
    check_spec("schedule", schedule)
    for start, target in ((0.0, 0.3), (0.0, 0.95), (0.3, 0.4), (0.5, 0.9), (0.0, 0.01)):
        steps = schedule(target, start)
        said = f"{schedule} from {start} to {target} gives {steps}"
        require(len(steps) > 0 and steps[-1] == target, f"{said}, which does not end on the target")
        require(all(a < b for a, b in pairwise((start, *steps))), f"{said}, which does not rise")
    require(schedule(0.5) == schedule(0.5, 0.0), f"{schedule} does not start at 0 by itself")


def _rows(needs: frozenset[Need], widths: Sequence[int]) -> list[Rows]:
    """Random members of 12 units, one of them dead; the second multiplies no activation, as a bias does."""
    source, rows = generator(), []
    influence, increase, met = (torch.rand(_UNITS, 1, generator=source) + 0.1 for _ in range(3))
    influence[_DEAD] = increase[_DEAD] = met[_DEAD] = 0
    for i, width in enumerate(widths):
        weight, gradient = (torch.randn(_UNITS, width, generator=source) for _ in range(2))
        norm = torch.rand(_UNITS, width, generator=source) + 0.1
        weight[_DEAD] = 0
        facts: dict[Need, Any] = {"gradient": gradient, "influence": influence, "loss_increase": increase}
        facts["product_norm"] = met
        if i != 1:
            x = torch.randn(60, _UNITS * (3 if i else 1), generator=source)
            x = x + x.roll(1, dims=1)
            facts |= {"activation_norm": norm, "activation_variance": norm.square(), "gram": Gram(x.T @ x)}
            errors = torch.randn(60, width // (3 if i else 1), generator=source)
            facts["gradient_gram"] = Gram(errors.T @ errors)
        rows.append(Rows(weight, **{need: fact for need, fact in facts.items() if need in needs}))
    return rows


def _tensors(rows: Rows) -> Iterator[Tensor]:
    facts = [getattr(rows, field.name) for field in fields(rows)]
    yield from (fact.matrix if isinstance(fact, Gram) else fact for fact in facts if fact is not None)


def _same_rows(a: Rows, b: Rows) -> bool:
    return all(map(torch.equal, _tensors(a), _tensors(b)))


def _reordered(rows: Rows, order: Tensor) -> Rows:
    facts = {field.name: getattr(rows, field.name) for field in fields(rows)}
    moved: dict[str, Any] = {name: fact[order] for name, fact in facts.items() if isinstance(fact, Tensor)}
    if rows.gram is not None:
        features = torch.arange(len(rows.gram.matrix)).view(_UNITS, -1)[order].flatten()
        moved["gram"] = Gram(rows.gram.matrix[features][:, features])
    return replace(rows, **moved)


def _check_counts(
    allocation: Allocation,
    groups: Sequence[Group],
    counts: Mapping[str, int],
    sparsity: float,
    price: Price,
) -> None:
    said = f"{allocation} at sparsity {sparsity} gives {dict(counts)}"
    require(counts.keys() == {g.name for g in groups}, f"{said}, not one count for each group")
    require(all(1 <= counts[g.name] <= g.block for g in groups), f"{said}, which empties or overfills a block")
    for group in groups:
        whole = counts[group.name] in {group.block, counts[group.name] // group.multiple * group.multiple}
        require(whole, f"{said}, no multiple of {group.multiple} in {group.name}")
    shares: dict[str, set[Fraction]] = {}
    for g in groups:
        shares.setdefault(g.kind, set()).add(Fraction(counts[g.name], g.block))
    require(all(len(kept) == 1 for kept in shares.values()), f"{said}, different shares in groups alike")
    units = {g.name: g.n_blocks * price.unit[g.name] for g in groups}
    gone = sum((g.block - counts[g.name]) * units[g.name] for g in groups)
    wanted = sparsity * sum(g.block * units[g.name] for g in groups)
    require(gone >= wanted * (1 - 1e-6), f"{said}, which removes {gone} of the {wanted} asked for")
    spare = sum(g.multiple * units[g.name] for g in groups if counts[g.name] < g.block)
    require(
        gone == 0 or gone - spare < wanted * (1 + 1e-6), f"{said}, which removes {gone} where {wanted} was asked for"
    )
