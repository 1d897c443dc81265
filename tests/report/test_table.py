"""Every measure of either network has a row, and the table fits the terminal it is shown on."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from secateurs.report import table
from secateurs.report.comparison import Comparison
from secateurs.types import Reading


def _show(it: Table, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(it)
    return stream.getvalue()


def _comparison() -> Comparison:
    dense = {
        "accuracy": Reading("accuracy", 0.972, "1", "measured", (0.96, 0.98)),
        "macs": Reading("macs", 416520, "MAC", "counted", source="FlopCounterMode"),
        "latency": Reading("latency", 0.0123, "s", "measured"),
        "energy": Reading("energy", float("nan"), "J", "modelled", source="codecarbon"),
    }
    pruned = {
        "accuracy": Reading("accuracy", 0.968, "1", "measured", (0.95, 0.98)),
        "macs": Reading("macs", 116520, "MAC", "counted", source="FlopCounterMode"),
        "latency": Reading("latency", 0.0073, "s", "measured"),
        "size": Reading("size", 90e3, "B", "counted"),
    }
    return Comparison(dense, pruned, {"latency": Reading("latency_ratio", 0.61, "1", "measured", (0.59, 0.63))})


def test_a_comparison_shows_every_measure_of_either() -> None:
    shown = _show(table.comparison(_comparison(), "digits"), 100)
    for text in ("digits", "0.9720", "-0.0040", "-72.0 %", "0.61x [0.59, 0.63]", "modelled, codecarbon", "90.0 kB"):
        assert text in shown


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(width: int) -> None:
    shown = _show(table.comparison(_comparison()), width)
    assert max(map(len, shown.splitlines())) <= width
    assert "416" not in shown
    for value in ("417 kMAC", "117 kMAC", "0.9720", "7.30 ms"):
        assert value in shown


def test_readings_show_interval_and_notes_stand_below() -> None:
    them = {
        "f1": Reading("f1", 0.5, "1", "measured", (0.4, 0.6), note="12 examples"),
        "x_y": Reading("x", 1, "s", "modelled"),
    }
    shown = _show(table.readings(them), 100)
    for text in ("F1", "[0.4000, 0.6000]", "x y", "modelled"):
        assert text in shown
    assert table.notes(them) == ["F1: 12 examples"]


def test_rows_keep_numbers_whole() -> None:
    shown = _show(table.rows({"name": False, "size": True}, [["encoder.layer.0.attention.heads" * 3, 123456789]]), 40)
    assert "123456789" in shown
    assert max(map(len, shown.splitlines())) <= 40


def test_a_latency_names_its_clock() -> None:
    wall = Reading("latency", 0.0123, "s", "measured", (0.012, 0.013), "wall clock, cpu, 1 thread")
    assert "latency, wall clock" in _show(table.readings({"latency": wall}), 120)
    cpu = Reading("latency", 0.0073, "s", "measured", source="process CPU time, cpu, 1 thread")
    assert "latency, CPU time" in _show(table.comparison(Comparison({"latency": cpu}, {"latency": cpu}, {})), 120)
