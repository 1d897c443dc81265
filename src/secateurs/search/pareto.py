"""The non-dominated among configurations, and the one that a stated preference takes.

A point maps an objective's name to a value to be minimised; here ratios to the dense network, so that 1 is no gain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from secateurs.types import SecateursError

Point = Mapping[str, float]

OBJECTIVES = ("macs", "latency", "energy")
"""C, T and E: what the front is taken over."""
NAMES = (*OBJECTIVES, "parameters")
"""What a preference may name."""


def front(points: Sequence[Point], objectives: Sequence[str] = OBJECTIVES) -> tuple[int, ...]:
    """Indices of the points that no other dominates: nowhere worse and somewhere better. Equal points all stay.

    Args:
        points: An objective that a point lacks, or that is no number, counts as the worst.
        objectives: Any number of them; to be minimised.
    """
    values = np.array([[_value(point, name) for name in objectives] for point in points])
    return tuple(
        i for i, row in enumerate(values) if not bool(((values <= row).all(axis=1) & (values < row).any(axis=1)).any())
    )


def _value(point: Point, name: str) -> float:
    value = point.get(name, math.inf)
    return math.inf if math.isnan(value) else value


@dataclass(frozen=True)
class Lexicographic:
    """The least by the first objective; where equal, by the second, and so on.

    Macs come first by default: they are counted, so the choice comes out the same when it is made again.

    Args:
        order: Names of objectives, the most important first.

    Raises:
        SecateursError: An unknown or repeated name, or none.
    """

    order: tuple[str, ...] = OBJECTIVES

    def __post_init__(self) -> None:
        """Check the names."""
        _check(self.order)

    def __call__(self, points: Sequence[Point]) -> int:
        return min(range(len(points)), key=lambda i: [_value(points[i], name) for name in self.order])

    def __str__(self) -> str:
        return ",".join(self.order)


@dataclass(frozen=True)
class Weights:
    """The least weighted sum of the ratios to the dense network.

    Args:
        weights: Objective -> weight, not negative.

    Raises:
        SecateursError: An unknown name, a weight that is negative or no number, or all of them zero.
    """

    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        """Check names and weights."""
        _check(tuple(self.weights))
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise SecateursError(f"the weight of {name} must be a number not below 0, got {weight}")
        if not any(self.weights.values()):
            raise SecateursError("at least one weight must be above 0")

    def __call__(self, points: Sequence[Point]) -> int:
        def total(i: int) -> float:
            return sum(w * _value(points[i], name) for name, w in self.weights.items() if w > 0)

        return min(range(len(points)), key=total)

    def __str__(self) -> str:
        return ",".join(f"{name}={weight:g}" for name, weight in self.weights.items())


Preference = Lexicographic | Weights


def preference(spec: str | Sequence[str] | Mapping[str, float]) -> Preference:
    """Read a preference as it is written on a command line or in YAML.

    Args:
        spec: ``macs,latency,energy`` or a list: the most important first. ``macs=1,latency=2`` or a map: weights.

    Raises:
        SecateursError: It is neither, or names what is no objective.
    """
    if isinstance(spec, Mapping):
        return Weights(dict(spec))
    if not isinstance(spec, str):
        return Lexicographic(tuple(spec))
    parts = [part.strip() for part in spec.split(",") if part.strip()]
    if not any("=" in part for part in parts):
        return Lexicographic(tuple(parts))
    weights: dict[str, float] = {}
    for part in parts:
        name, _, number = (side.strip() for side in part.partition("="))
        try:
            weights[name] = float(number)
        except ValueError as error:
            raise SecateursError(f"{part!r} gives no weight: write name=number, e.g. macs=1,latency=2") from error
    return Weights(weights)


def _check(names: tuple[str, ...]) -> None:
    if not names:
        raise SecateursError(f"a preference names at least one of {', '.join(NAMES)}")
    for name in names:
        if name not in NAMES:
            near = get_close_matches(name, NAMES, n=1)
            mend = f"did you mean {near[0]!r}?" if near else f"give some of {', '.join(NAMES)}"
            raise SecateursError(f"{name!r} is no objective: {mend}")
    if len(set(names)) < len(names):
        raise SecateursError(f"a preference names each objective once, got {','.join(names)}")
