"""Modules stand in order of execution, layers that repeat once, and no two rails cross in one lane."""

from __future__ import annotations

from report.conftest import Inspected
from secateurs.report.picture import Box, Mark, Picture, picture


def _drawn(it: Inspected) -> Picture:
    return picture(it.costs, it.modules)


def test_layers_that_repeat_are_drawn_once_in_order(inspected: Inspected) -> None:
    shown = _drawn(inspected)
    assert [box.label for box in shown.boxes] == ["table", "net.{0-1}.up", "net.{0-1}.down", "head"]
    assert [strand.label for strand in shown.strands] == ["table.vocabulary", "width", "net.{0-1}.ffn", "head.output"]


def test_kernel_positions_are_left_out(inspected: Inspected) -> None:
    assert all(strand.first.dim.role != "kernel" for strand in _drawn(inspected).strands)


def test_a_dim_runs_through_the_modules_that_carry_it(inspected: Inspected) -> None:
    shown = _drawn(inspected)
    assert [shown.rows(i) for i in range(4)] == [(0,), (0, 1, 2, 3), (1, 2), (3,)]
    assert list(shown.boxes[1].axes()) == [("weight", 0, (2,)), ("weight", 1, (1,))]


def test_rails_in_one_lane_lie_apart(inspected: Inspected) -> None:
    shown = _drawn(inspected)
    lanes = shown.lanes()
    assert lanes[1] == 0, "the longest is leftmost"
    assert len(set(lanes)) == 2, "short ones share a lane"
    for a in range(len(lanes)):
        for b in range(a):
            apart = shown.rows(a)[-1] < shown.rows(b)[0] or shown.rows(b)[-1] < shown.rows(a)[0]
            assert lanes[a] != lanes[b] or apart


def test_like_names_with_other_dims_stay_apart(inspected: Inspected) -> None:
    first, second, *rest = inspected.costs[2:]
    other = Inspected((*inspected.costs[:2], first, *rest), inspected.modules)
    assert second.dim.name == "net.1.ffn"
    assert [box.label for box in _drawn(other).boxes] == [
        "table", "net.0.up", "net.0.down", "net.1.up", "net.1.down", "head",
    ]  # fmt: skip


def test_the_root_has_a_name_and_no_network_is_too_small() -> None:
    assert Box(("",), (Mark("weight", 0, 0),)).label == "(the network itself)"
    assert picture((), ()).lanes() == ()
