"""Scales: parameters that multiply an activation position by position, as those of norms do, and who reads the product.

Where weights alone read it, the scale can be moved into them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from secateurs.graph.flow import Flow, Step
from secateurs.graph.reach import ADDITIONS


@dataclass(frozen=True, slots=True)
class Scale:
    """A parameter by which an activation is multiplied, position by position.

    Args:
        offset: What is added to it first: one, where it is kept as its difference from one.
        weights: (name, module that computes the product) of the weights that read the product.
        others: The operators that read it, and are no product with a weight, or with one that reads it unscaled, too.
    """

    offset: float
    weights: tuple[tuple[str, str], ...]
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Reading:
    scales: frozenset[str]
    weight: str
    module: str
    operator: str


def find(flow: Flow, weights: Collection[str]) -> dict[str, Scale]:
    """Every scale of a network, by the parameter's name.

    Args:
        flow: Of one forward pass.
        weights: Names of the parameters that multiply and sum.
    """
    origin = {value: (name, 0.0) for name, value in flow.stored.items()}
    scaled: dict[int, frozenset[str]] = {}
    offsets: dict[str, float] = {}
    readings: list[_Reading] = []
    for step in flow.steps:
        mine = [origin[value] for value in step.reads if value in origin]
        given = [value for value in step.reads if value not in origin]
        if len(mine) == 1 and not given:  # a view, a cast, one more than it
            (name, offset) = mine[0]
            origin |= dict.fromkeys(step.makes, (name, offset + float(step.operator in ADDITIONS)))
            continue
        so_far = frozenset().union(*(scaled.get(value, frozenset()) for value in given))
        if step.is_product:
            held = [name for name, _ in mine if name in weights] or [""]
            readings += [_Reading(so_far, name, step.module, step.operator) for name in held]
            continue
        found = dict(mine) if _is_scaling(step) and given else {}
        offsets |= found
        if so_far or found:
            scaled |= dict.fromkeys(step.makes, so_far | found.keys())
    return {name: _scale(name, offset, readings) for name, offset in offsets.items()}


def _is_scaling(step: Step) -> bool:
    name = step.operator.removeprefix("aten.").rstrip("_")
    return name == "mul" or name.endswith(("layer_norm", "rms_norm"))


def _scale(name: str, offset: float, readings: list[_Reading]) -> Scale:
    mine = [reading for reading in readings if name in reading.scales]
    unscaled = {(it.weight, it.module) for it in readings if name not in it.scales}
    weights = dict.fromkeys((it.weight, it.module) for it in mine if it.weight)
    others = dict.fromkeys(it.operator for it in mine if not it.weight or (it.weight, it.module) in unscaled)
    return Scale(offset, tuple(weights), tuple(others))
