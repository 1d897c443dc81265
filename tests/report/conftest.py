"""A network of two like layers between an embedding and a head, as an inspection tells of it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from secateurs.types import Dim


@dataclass(frozen=True)
class Cost:
    dim: Dim
    unit_macs: int = 1000
    unit_parameters: int = 10
    macs: int = 5000
    parameters: int = 50


@dataclass(frozen=True)
class Inspected:
    costs: tuple[Cost, ...]
    modules: tuple[str, ...]


@pytest.fixture
def inspected() -> Inspected:
    layers = range(2)
    width = ["table.weight[1]", *(f"net.{i}.{name}" for i in layers for name in ("up.weight[1]", "down.weight[0]"))]
    statistic = "a statistic is taken over it (aten.mean)"
    dims = [
        Dim("table.vocabulary", 40, "vocabulary", ("table.weight[0]",), "its positions are picked by data"),
        Dim("width", 8, "width", (*width, "head.weight[1]"), statistic),
        *(Dim(f"net.{i}.ffn", 5, "neurons", (f"net.{i}.up.weight[0]", f"net.{i}.down.weight[1]")) for i in layers),
        Dim("head.output", 3, "output", ("head.weight[0]",), "an output of the model"),
        Dim("table.kernel", 3, "kernel", ("table.weight[2]",), "a kernel position"),
    ]
    modules = ("table", "net.0.up", "net.0.down", "net.1.up", "net.1.down", "head")
    return Inspected(tuple(map(Cost, dims)), modules)
