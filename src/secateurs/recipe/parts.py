"""Name -> part, part -> name.

Parts are found by importing ``secateurs.<room>.<name>``, or ``package.module:Class`` for a part of one's own, so there
is nothing to register.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

from secateurs.names import function
from secateurs.recipe.fields import brief, build, unknown
from secateurs.types import (
    Allocation,
    Basis,
    Chooser,
    Criterion,
    Measure,
    Recovery,
    Schedule,
    SecateursError,
    Solver,
    Structure,
)

ROOMS = MappingProxyType(
    {
        "structure": "structures",
        "criterion": "criteria",
        "allocation": "allocations",
        "schedule": "schedules",
        "recovery": "recoveries",
        "chooser": "choosers",
        "solver": "solvers",
        "basis": "bases",
        "measure": "measures",
    }
)
"""Axis -> the room that holds its parts."""

_PROTOCOLS: Mapping[str, type] = MappingProxyType(
    {
        "structure": Structure,
        "criterion": Criterion,
        "allocation": Allocation,
        "schedule": Schedule,
        "recovery": Recovery,
        "chooser": Chooser,
        "solver": Solver,
        "basis": Basis,
        "measure": Measure,
    }
)


def part_names(axis: str) -> tuple[str, ...]:
    """Names of the parts of an axis: ``structure``, ``criterion``, ..., ``measure``.

    Raises:
        SecateursError: There is no such axis.
    """
    if axis not in ROOMS:
        raise SecateursError(unknown("axis", axis, ROOMS))
    room = import_module(f"secateurs.{ROOMS[axis]}")
    return tuple(sorted(m.name for m in pkgutil.iter_modules(room.__path__) if not (m.ispkg or m.name.startswith("_"))))


def part(axis: str, spec: Any) -> Any:
    """Build one part from ``"name"`` or ``{"name": {field: value}}``.

    Args:
        axis: ``structure``, ``criterion``, ``allocation``, ``schedule``, ``recovery``, ``chooser``, ``solver``,
            ``basis`` or ``measure``.
        spec: The name of a part of that axis, or ``package.module:Class`` for a frozen dataclass of one's own; alone,
            or as the only key of a mapping to its fields.

    Raises:
        SecateursError: An unknown part or field (named with its near match), or a value of the wrong type.
    """
    known = part_names(axis)
    if isinstance(spec, str):
        spec = {spec: {}}
    if not isinstance(spec, Mapping) or len(spec) != 1 or not isinstance(next(iter(spec)), str):
        raise SecateursError(f"{axis}: give a name, or one name with its fields {{name: {{...}}}}, got {brief(spec)}")
    [(name, values)] = spec.items()
    if values is not None and not isinstance(values, Mapping):
        raise SecateursError(f"{axis} {name}: its fields must be a mapping, got {brief(values)}")
    cls = _own_class(axis, name) if ":" in name else _class(axis, name, known)
    made = build(cls, f"{axis} {name}", values or {})
    if not isinstance(made, _PROTOCOLS[axis]):
        raise SecateursError(f"{axis} {name}: lacks what every {axis} has; see secateurs.types.{axis.capitalize()}")
    return made


def describe(axis: str, made: Any) -> str | dict[str, dict[str, Any]]:
    """The spec of a part, all fields written out; the inverse of ``part``."""
    values = {f.name: _plain(getattr(made, f.name)) for f in fields(made) if f.init}
    name = name_of(axis, made)
    return {name: values} if values else name


def name_of(axis: str, made: Any) -> str:
    """The name under which ``part`` finds a part: its file's, or ``package.module:Class``."""
    cls = type(made)
    room, _, name = cls.__module__.rpartition(".")
    return name if room == f"secateurs.{ROOMS[axis]}" else f"{cls.__module__}:{cls.__qualname__}"


def _class(axis: str, name: str, known: tuple[str, ...]) -> type:
    if name not in known:
        raise SecateursError(unknown(axis, name, known))
    module = import_module(f"secateurs.{ROOMS[axis]}.{name}")
    found: type = getattr(module, "".join(word.capitalize() for word in name.split("_")))
    return found


def _own_class(axis: str, name: str) -> type:
    found = function(name)
    if not isinstance(found, type) or not is_dataclass(found):
        raise SecateursError(f"{axis} {name}: must be a frozen dataclass, as every part is")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
