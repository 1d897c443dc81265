from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateurs.allocations.global_rank import GlobalRank
from secateurs.select import select, share_below
from secateurs.types import Group, Price, SecateursError


def group(n_units: int, block: int) -> Group:
    return Group("g", n_units, (), block)


@given(
    n_blocks=st.integers(1, 5),
    block=st.integers(1, 7),
    levels=st.integers(1, 4),
    data=st.data(),
)
def test_keeps_exactly_the_best_and_of_equal_ones_the_first(
    n_blocks: int, block: int, levels: int, data: st.DataObject
) -> None:
    values = data.draw(st.lists(st.integers(0, levels), min_size=n_blocks * block, max_size=n_blocks * block))
    count = data.draw(st.integers(0, block))
    keep = select([group(n_blocks * block, block)], {"g": torch.tensor(values).float()}, {"g": count}).keep["g"]
    for b in range(n_blocks):
        units = range(b * block, (b + 1) * block)
        best = sorted(units, key=lambda i: (-values[i], i))[:count]
        assert [i for i in units if keep[i]] == sorted(best)


def test_infinite_scores_protect_and_condemn() -> None:
    scores = {"g": torch.tensor([0.0, torch.inf, -torch.inf, 1.0])}
    assert select([group(4, 4)], scores, {"g": 1}).keep["g"].tolist() == [False, True, False, False]
    assert select([group(4, 4)], scores, {"g": 3}).keep["g"].tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("scores", "counts", "message"),
    [
        ({}, {"g": 1}, "g has no scores"),
        ({"g": torch.ones(4)}, {}, "g has no count"),
        ({"g": torch.ones(3)}, {"g": 1}, r"g has 4 units, but scores of shape \(3,\)"),
        ({"g": torch.tensor([1.0, torch.nan, 1.0, 1.0])}, {"g": 1}, "g has 1 scores that are not a number"),
        ({"g": torch.ones(4)}, {"g": 3}, "g cannot keep 3 units of every block of 2"),
        ({"g": torch.ones(4)}, {"g": -1}, "g cannot keep -1 units"),
    ],
)
def test_what_cannot_be_selected_from_is_refused(
    scores: dict[str, torch.Tensor], counts: dict[str, int], message: str
) -> None:
    with pytest.raises(SecateursError, match=message):
        select([group(4, 2)], scores, counts)


def test_a_threshold_is_the_share_of_units_that_it_drops() -> None:
    groups = [Group("a", 40, (), 40), Group("b", 60, (), 60)]
    scores = {group.name: torch.rand(group.n_units) for group in groups}
    share = share_below(scores, 0.3)
    allocation = GlobalRank(currency="units", floor=0.0)
    counts = allocation(groups, scores, share, Price.linear(groups, {"a": 1.0, "b": 1.0}))
    keep = select(groups, scores, counts).keep
    assert all(torch.equal(keep[name], score > 0.3) for name, score in scores.items())
    assert 0 < share < 1 and share_below(scores, -1.0) == 0.0 and share_below(scores, 2.0) == 1.0


def test_a_threshold_of_nothing() -> None:
    with pytest.raises(SecateursError, match="no share below 1 of 0 scores"):
        share_below({}, 1.0)
