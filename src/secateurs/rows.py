"""What a criterion sees of a group: for each scored member matrices of weights, of gradients, a row for each unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from secateurs.types import Facts, Gram, Group, Member, Rows


def rows_of(group: Group, tensors: Mapping[str, Tensor], found: Facts) -> list[list[Rows]]:
    """What a criterion sees at a time of a group's scored members, whose tensors are given by name.

    That is all units at once, like modules side by side; or layers, which have no tensor in common, one by one.
    """
    by_unit: dict[int | None, list[Rows]] = {}
    met = _product_norm(group, found)
    for member in (member for member in group.members if member.scored):
        rows = replace(_rows(group, member, tensors[member.tensor], found), product_norm=met)
        by_unit.setdefault(member.unit, []).append(rows)
    if group.dims:
        each = zip(*(by_unit[unit] for unit in range(group.n_units) if unit in by_unit), strict=True)
        return [[*by_unit.get(None, ()), *map(side_by_side, each)]]
    return [by_unit[unit] for unit in sorted(by_unit, key=lambda unit: unit or 0)]


def side_by_side(units: Sequence[Rows]) -> Rows:
    """The rows of like tensors, one of each unit, as one: ``(n_units, n_elements)``.

    Args:
        units: Of modules in a list; a weight that multiplied nothing, where those of others did, saw zeros.
    """

    def together(name: str) -> Tensor | None:
        facts: list[Tensor | None] = [getattr(it, name) for it in units]
        if all(fact is None for fact in facts):
            return None
        like = next(fact for fact in facts if fact is not None)
        return torch.cat([torch.zeros_like(like) if fact is None else fact for fact in facts])

    return Rows(
        torch.cat([it.weight for it in units]),
        together("gradient"),
        together("activation_norm"),
        together("activation_variance"),
        together("influence"),
        together("loss_increase"),
    )


def _rows(group: Group, member: Member, weight: Tensor, found: Facts) -> Rows:
    def cut(by_tensor: Mapping[str, Tensor], there: bool = True) -> Tensor | None:
        fact = by_tensor.get(member.tensor) if there else None
        return None if fact is None else member.cut(fact.expand(weight.shape))

    def column(by_group: Mapping[str, Tensor]) -> Tensor | None:
        fact = by_group.get(group.name)
        mine = slice(None) if member.unit is None else slice(member.unit, member.unit + 1)
        return None if fact is None else fact[mine, None].to(weight.device)

    reads = reads_units(group, member)
    return Rows(
        member.cut(weight.detach()),
        cut(found.gradient),
        cut(found.activation_norm),
        cut(found.activation_variance, member.reads),
        column(found.influence),
        column(found.loss_increase),
        group.grid or None,
        _gram(member, found) if reads else None,
        found.gram.get(f"{member.tensor}[{1 - member.dims[0]}]") if reads else None,
    )


def _product_norm(group: Group, found: Facts) -> Tensor | None:
    """The norms of the two factors of each product that is summed over the units, multiplied: ``(n_units, 1)``."""
    total: Tensor | None = None
    for meeting in group.meetings:
        norms = [found.output_norm.get(f"{side.tensor}[{side.axis}]") for side in meeting]
        if any(norm is None for norm in norms):  # it is not known of all of them
            return None
        one, other = (
            norm[side.positions.to(norm.device)].norm(dim=2)
            for norm, side in zip(norms, meeting, strict=True)
            if norm is not None
        )
        total = (one * other).sum(dim=1, keepdim=True) + (0 if total is None else total)
    return total


def reads_units(group: Group, member: Member) -> bool:
    """Whether units are inputs of a weight as a whole."""
    return bool(group.dims) and member.scored and member.reads and len(member.dims) == 1


def _gram(member: Member, found: Facts) -> Gram | None:
    """Of the features of the units, one unit after the other."""
    gram = found.gram.get(f"{member.tensor}[{member.dims[0]}]")
    if gram is None or member.index is None:
        return gram
    order = member.index.flatten().to(gram.matrix.device)
    whole = torch.equal(order, torch.arange(len(gram.matrix), device=order.device))
    return gram if whole else Gram(gram.matrix[order][:, order])
