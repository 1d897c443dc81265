from __future__ import annotations

import pytest

from secateurs.allocations._shares import counts
from secateurs.types import Group, Price, SecateursError


def groups(*sizes: int, least: int = 1, multiple: int = 1) -> list[Group]:
    return [Group(f"g{i}", n, (), n, least=least, multiple=multiple) for i, n in enumerate(sizes)]


def linear(of: list[Group], *units: float) -> Price:
    return Price.linear(of, {group.name: unit for group, unit in zip(of, units, strict=True)})


def test_the_level_at_which_the_shares_cost_what_is_asked_for() -> None:
    two = groups(100, 100)
    found = counts("x", two, 0.5, linear(two, 1, 1), lambda g, level: level * (0.5 if g.name == "g0" else 1))
    assert found == {"g0": 66, "g1": 33}  # level 2/3
    dear = counts("x", two, 0.5, linear(two, 3, 1), lambda g, level: 2 * level - (0.2 if g.name == "g0" else 0))
    assert dear == {"g0": 55, "g1": 35}  # 3 x 45 + 65 = 200 of 400


def test_no_share_is_below_none_or_above_what_a_group_bears() -> None:
    two = groups(10, 10, least=3, multiple=2)
    found = counts("x", two, 0.5, linear(two, 1, 1), lambda g, level: 2 * level - (0.9 if g.name == "g0" else 0))
    assert found == {"g0": 6, "g1": 4}  # g1 keeps at least 4: 6 of 10 go, and 4 of the other


def test_nothing_goes_where_nothing_is_asked_for() -> None:
    two = groups(7, 9)
    assert counts("x", two, 0.0, linear(two, 1, 1), lambda g, level: 2 * level - 0.5) == {"g0": 7, "g1": 9}


def test_what_the_groups_do_not_bear() -> None:
    one = groups(4)
    with pytest.raises(SecateursError, match=r"x: sparsity 0.8 leaves a block without units; ask for at most 0.75"):
        counts("x", one, 0.8, linear(one, 1), lambda g, level: 2 * level)
    with pytest.raises(SecateursError, match=r"x: sparsity must be in \[0, 1\), got 1.0"):
        counts("x", one, 1.0, linear(one, 1), lambda g, level: 2 * level)
