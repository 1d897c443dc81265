"""Layers alike share a row, unlike ones do not, and nothing that is asked for is left out."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from secateurs.job.inspecting import Depth
from secateurs.report.dims import frozen, layers, prunable
from secateurs.types import Dim


@dataclass(frozen=True)
class Cost:
    dim: Dim
    unit_macs: int = 1000
    unit_parameters: int = 10
    macs: int = 5000
    parameters: int = 50


def _ffn(layer: int, size: int = 5, why: str | None = None) -> Cost:
    carriers = tuple(f"encoder.layer.{layer}.{name}[0]" for name in ("up.weight", "up.bias", "down.weight"))
    return Cost(Dim(f"encoder.layer.{layer}.ffn", size, "neurons", carriers, why))


def _show(it: Table, width: int = 100) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(it)
    return stream.getvalue()


def test_layers_alike_share_a_row() -> None:
    shown = _show(prunable([_ffn(0), _ffn(1), _ffn(3), _ffn(4, size=6), _ffn(5, why="an output")]), width=200)
    assert "4 dims that can shrink" in shown
    assert "encoder.layer.{0-1,3}.ffn" in shown
    assert "encoder.layer.4.ffn" in shown
    assert "encoder.layer.5" not in shown
    assert "carried by up.weight[0], up.bias[0] and 1 more" in " ".join(shown.split())


def test_a_flagged_dim_says_why() -> None:
    flagged = replace(_ffn(2).dim, flagged="a statistic is taken over it")
    shown = _show(prunable([_ffn(1), Cost(flagged)]), width=200)
    assert "layer.{1-2}" not in shown and "a statistic is taken over it" in shown


def test_layers_that_can_be_skipped_have_their_own_table() -> None:
    shown = _show(layers([Depth("encoder.layer.*", "block", 12, 2e6, 3e3)]))
    (row,) = [line for line in shown.splitlines() if "encoder" in line]
    assert row.split() == ["encoder.layer.*", "block", "12", "2.00", "M", "3.00", "k"]


def test_every_carrier_by_its_full_name() -> None:
    shown = _show(prunable([_ffn(7)], every_carrier=True))
    assert all(carrier in shown for carrier in _ffn(7).dim.carriers)


def test_costs_stand_in_the_row() -> None:
    (row,) = [line for line in _show(prunable([_ffn(7)])).splitlines() if "layer.7" in line]
    assert row.split() == ["encoder.layer.7.ffn", "5", "1.00", "k", "10", "5.00", "k", "50"]


def test_frozen_dims_say_why() -> None:
    shown = _show(frozen([_ffn(0, why="an output"), _ffn(1, why="an output"), _ffn(2, why="a statistic"), _ffn(3)]))
    assert "3 dims that are frozen" in shown
    assert "encoder.layer.0.ffn and 1 more" in shown
    assert "a statistic" in shown
    assert "layer.3" not in shown


def test_a_narrow_terminal_cuts_nothing() -> None:
    shown = _show(prunable([_ffn(0)]), width=50)
    assert max(map(len, shown.splitlines())) <= 50
    assert "1.00 k" in shown
