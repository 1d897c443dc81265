"""Layers that Python numbers: where some are skipped, those left close up.

A cache of keys and values is written by each layer under its number, and asked at the first one how long it is: were
the first layer skipped, the answer would be zero for ever. Among layers with equal settings (a sliding window, or none)
those left take the first of the numbers that they had together, so that every number keeps its settings.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from secateurs.graph.network import ancestry
from secateurs.repair import Repair
from secateurs.types import Skip


def renumbered(model: nn.Module, skips: Iterable[Skip]) -> list[Repair]:
    """The new numbers of the layers that are left.

    Args:
        model: As it was, no module skipped yet.
        skips: The modules that will not be run.
    """
    gone = frozenset(skip.module for skip in skips)
    repairs: list[Repair] = []
    for name, module in model.named_modules() if gone else ():
        for below, attributes in _counters(module).items():
            paths = [".".join(p for p in (name, str(i), below) if p) for i in attributes.places]
            repairs += _closed_up(model, paths, attributes.names, gone)
    return repairs


@dataclass(frozen=True)
class _Counter:
    """Attributes that equal the number of the layer, and the numbers of the layers that have them."""

    names: frozenset[str]
    places: tuple[int, ...]


def _counters(module: nn.Module) -> dict[str, _Counter]:
    """Path inside a layer -> what counts the layers there; empty where the module is no list of layers."""
    layers = list(module.children())
    if len(layers) < 2 or [name for name, _ in module.named_children()] != [str(i) for i in range(len(layers))]:
        return {}
    parts: dict[str, dict[int, nn.Module]] = {}
    for i, layer in enumerate(layers):
        for below, part in layer.named_modules():
            parts.setdefault(below, {})[i] = part
    found = {}
    for below, by_layer in parts.items():
        names = frozenset(
            name
            for name in vars(next(iter(by_layer.values())))
            if not name.startswith("_") and all(_is(getattr(part, name, None), i) for i, part in by_layer.items())
        )
        if names and len(by_layer) > 1:
            found[below] = _Counter(names, tuple(by_layer))
    return found


def _is(value: object, number: int) -> bool:
    return type(value) is int and value == number


def _closed_up(
    model: nn.Module, paths: Sequence[str], attributes: frozenset[str], gone: frozenset[str]
) -> Iterator[Repair]:
    alike: dict[Hashable, list[str]] = {}
    for path in paths:
        alike.setdefault(_settings(model.get_submodule(path), attributes), []).append(path)
    for same in alike.values():
        left = [path for path in same if not any(module in gone for module in ancestry(path))]
        for path, other in zip(left, same, strict=False):
            if path != other:
                there = model.get_submodule(other)
                yield from (Repair(path, attribute, getattr(there, attribute)) for attribute in sorted(attributes))


def _settings(module: nn.Module, without: frozenset[str]) -> Hashable:
    """What is plain data of a module."""
    plain = ((n, v) for n, v in vars(module).items() if n not in without and isinstance(v, str | int | float | None))
    return type(module), frozenset(plain)
