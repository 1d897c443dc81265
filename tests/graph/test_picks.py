from __future__ import annotations

import torch

from secateurs.graph.axes import Axis, Node, concatenation, find, leaves
from secateurs.graph.picks import NUMBERED, Picks


def axis(size: int) -> Axis:
    return (Node(size),)


def test_numbers_of_what_cannot_shrink_are_not_followed() -> None:
    picks, here, there = Picks(), torch.tensor([1]), torch.tensor([1])
    picks.give((Node(4, "an input of the model"),), here)
    picks.give(free := axis(4), there)
    assert picks.of(here) == () and picks.of(there) == free


def test_what_is_found_by_numbers_of_an_axis_is_that_axis() -> None:
    picks, numbers, mine, other = Picks(), torch.tensor([1]), axis(4), axis(4)
    picks.give(mine, numbers)
    assert picks.find(other, numbers, "by data")
    assert find(mine[0]) is find(other[0]) and next(leaves(mine)).frozen is None and next(leaves(mine)).flagged
    assert not picks.find(stranger := axis(4), torch.tensor([2]), "by data")
    assert stranger[0].frozen == "by data"


def test_a_longer_axis_begins_with_the_numbered_one() -> None:
    picks, numbers, mine, longer = Picks(), torch.tensor([1]), axis(4), axis(6)
    picks.give(mine, numbers)
    assert picks.find(longer, numbers, "by data")
    first, rest = leaves(longer)
    assert first is find(mine[0]) and rest.frozen


def test_a_shorter_axis_is_one_only_where_the_numbered_one_ends_a_part() -> None:
    picks, mine, numbers, shorter = Picks(), axis(4), torch.tensor([1]), axis(4)
    picks.give(concatenation([mine, axis(1)]), numbers)
    assert picks.find(shorter, numbers, "by data") and find(mine[0]) is find(shorter[0])
    assert not picks.find(odd := axis(3), numbers, "by data")
    assert (odd[0].frozen == NUMBERED and mine[0].frozen == NUMBERED) or find(mine[0]).frozen == NUMBERED


def test_a_number_that_python_took_is_selected_by_at_once_or_freezes() -> None:
    picks, mine, table = Picks(), axis(4), axis(4)
    picks.waiting.append((mine, 2))
    assert not picks.take(table, 1)
    assert picks.take(table, 2) and find(mine[0]) is find(table[0]) and not picks.waiting
    picks.waiting.append((mine, 3))
    picks.settle(list(picks.waiting))
    assert find(mine[0]).frozen == NUMBERED and not picks.waiting


def test_numbers_beyond_what_may_go_are_not_spoken_of() -> None:
    both = concatenation([axis(4), axis(1)])
    picks = Picks()
    assert picks.spoken(both, 3) and not picks.spoken(both, 5) and not picks.spoken(both, -1)
    next(leaves(both)).frozen = "held"
    assert not picks.spoken(both, 3)
