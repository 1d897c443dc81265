"""Operator rules, by family: how each ATen operator relates the axes of what enters and what leaves it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch

from secateurs.graph.rules import contraction, indexing, moving, pointwise, recurrent, reduction, shape, taking
from secateurs.graph.rules.making import apart
from secateurs.graph.rules.picking import minded
from secateurs.graph.trace import Rule

RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {
        name: rule
        for family in (pointwise, shape, taking, moving, contraction, reduction, indexing, recurrent)
        for name, rule in family.RULES.items()
    }
)


def rule_for(func: Any) -> Rule | None:
    """The rule of an ATen operator; what torch itself marks as pointwise needs no entry."""
    rule = RULES.get(str(func.overloadpacket))
    if rule is None and torch.Tag.pointwise in func.tags:
        rule = pointwise.pointwise
    return rule and minded(apart(rule))
