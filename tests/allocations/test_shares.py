from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateurs.allocations._shares import counts
from secateurs.types import Group, Price, SecateursError


def groups(*sizes: int, least: int = 1, multiple: int = 1) -> list[Group]:
    return [Group(f"g{i}", n, (), n, least=least, multiple=multiple) for i, n in enumerate(sizes)]


def linear(of: list[Group], *units: float) -> Price:
    return Price.linear(of, {group.name: unit for group, unit in zip(of, units, strict=True)})


def test_the_level_at_which_the_shares_cost_what_is_asked_for() -> None:
    two = groups(100, 100)
    found = counts("x", two, 0.5, linear(two, 1, 1), lambda g, level: level * (0.5 if g.name == "g0" else 1))
    assert found == {"g0": 67, "g1": 33}  # level 2/3
    dear = counts("x", two, 0.5, linear(two, 3, 1), lambda g, level: 2 * level - (0.2 if g.name == "g0" else 0))
    assert dear == {"g0": 55, "g1": 35}  # 3 x 45 + 65 = 200 of 400


def test_no_share_is_below_none_or_above_what_a_group_bears() -> None:
    two = groups(10, 10, least=3, multiple=2)
    found = counts("x", two, 0.5, linear(two, 1, 1), lambda g, level: 2 * level - (0.9 if g.name == "g0" else 0))
    assert found == {"g0": 6, "g1": 4}  # g1 keeps at least 4: 6 of 10 go, and 4 of the other


def test_nothing_goes_where_nothing_is_asked_for() -> None:
    two = groups(7, 9)
    assert counts("x", two, 0.0, linear(two, 1, 1), lambda g, level: 2 * level - 0.5) == {"g0": 7, "g1": 9}


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 4), st.floats(0, 1)), min_size=1, max_size=5), st.data())
def test_what_goes_is_enough_and_by_less_than_one_unit_of_one_group_more(
    made: list[tuple[int, int, float]], data: st.DataObject
) -> None:
    of = [Group(f"g{i}", multiple * n, (), multiple * n, multiple=multiple) for i, (n, multiple, _) in enumerate(made)]
    less = {group.name: apart for group, (*_, apart) in zip(of, made, strict=True)}
    units, bears = sum(group.block for group in of), sum(group.block - group.multiple for group in of)
    asked = sorted(n / 1000 for n in data.draw(st.lists(st.integers(0, 1000), min_size=2, max_size=2)))
    found = [
        counts(
            "x",
            of,
            min(share * bears / units, 0.999),
            linear(of, *[1.0] * len(of)),
            lambda g, at: 2 * at - less[g.name],
        )
        for share in asked
    ]
    for share, one in zip(asked, found, strict=True):
        over = units - sum(one.values()) - share * bears
        assert -1e-6 <= over < max(group.multiple for group in of)
    assert all(found[1][name] <= kept for name, kept in found[0].items()), "who asks for more keeps no more"


def test_what_the_groups_do_not_bear() -> None:
    one = groups(4)
    with pytest.raises(SecateursError, match=r"x: sparsity 0.8 leaves a block without units; ask for at most 0.75"):
        counts("x", one, 0.8, linear(one, 1), lambda g, level: 2 * level)
    with pytest.raises(SecateursError, match=r"x: sparsity must be in \[0, 1\), got 1.0"):
        counts("x", one, 1.0, linear(one, 1), lambda g, level: 2 * level)
