from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateurs.allocations.global_rank import GlobalRank
from secateurs.types import Group, Price, SecateursError


def make(**blocks: tuple[int, int]) -> list[Group]:
    """Groups by name: (number of blocks, units in one)."""
    return [Group(name, n * block, (), block) for name, (n, block) in blocks.items()]


def test_the_worst_go_first_across_groups() -> None:
    groups = make(a=(1, 4), b=(1, 4))
    scores = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([2.5, 30.0, 10.0, 20.0])}
    costs = {"a": 1.0, "b": 1.0}
    rank = GlobalRank(currency="units")
    assert rank(groups, scores, 0.125, Price.linear(groups, costs)) == {"a": 3, "b": 4}
    assert rank(groups, scores, 0.375, Price.linear(groups, costs)) == {"a": 2, "b": 3}
    assert rank(groups, scores, 0.5, Price.linear(groups, costs)) == {"a": 1, "b": 3}
    assert rank(groups, scores, 0.0, Price.linear(groups, costs)) == {"a": 4, "b": 4}


def test_worth_is_score_per_cost() -> None:
    groups = make(cheap=(1, 4), dear=(1, 4))
    scores = {"cheap": torch.full((4,), 1.0), "dear": torch.full((4,), 2.0)}
    assert GlobalRank(currency="units")(groups, scores, 0.25, Price.linear(groups, {"cheap": 1.0, "dear": 1.0})) == {
        "cheap": 2,
        "dear": 4,
    }
    assert GlobalRank()(groups, scores, 0.25, Price.linear(groups, {"cheap": 1.0, "dear": 10.0})) == {
        "cheap": 4,
        "dear": 2,
    }


def test_standard_scores_are_ranked_whatever_a_unit_costs() -> None:
    groups = make(cheap=(1, 4), dear=(2, 2))
    # Standard scores: -1.34, -0.45, 0.45, 1.34 and, as the blocks lose as many, the mean of -1 and -1, of 1 and 1.
    scores = {"cheap": torch.tensor([1.0, 2.0, 3.0, 4.0]), "dear": torch.tensor([500.0, 700.0, 700.0, 500.0])}
    rank = GlobalRank(currency="units", normalise="standard")
    for costs in ({"cheap": 1.0, "dear": 1.0}, {"cheap": 1.0, "dear": 0.01}):
        price = Price.linear(groups, costs)
        assert rank(groups, scores, 0.1, price) == {"cheap": 3, "dear": 2}
        most = costs["dear"] == 1.0
        assert rank(groups, scores, 0.3 if most else 0.25, price)["dear"] == 1


def test_what_is_gone_does_not_count_in_a_standard_score() -> None:
    groups = make(a=(1, 4), b=(1, 4))
    scores = {"a": torch.tensor([-torch.inf, 1.0, 2.0, 3.0]), "b": torch.tensor([10.0, 10.5, 11.5, 12.0])}
    rank = GlobalRank(currency="units", normalise="standard")
    price = Price.linear(groups, {"a": 1.0, "b": 1.0})
    assert rank(groups, scores, 1 / 8, price) == {"a": 3, "b": 4}
    assert rank(groups, scores, 3 / 8, price) == {"a": 2, "b": 3}  # -1.22 and -1.26


def test_what_costs_nothing_is_kept() -> None:
    groups = make(free=(1, 4), dear=(1, 4))
    scores = {"free": torch.zeros(4), "dear": torch.ones(4)}
    assert GlobalRank()(groups, scores, 0.5, Price.linear(groups, {"free": 0.0, "dear": 3.0})) == {"free": 4, "dear": 2}


def test_blocks_lose_the_same_number_and_a_slice_is_their_sum() -> None:
    groups = make(two=(2, 2), one=(1, 4))
    # The worst of each block of `two` together: (1 + 9) / 2 units = 5 a unit, though one of its units scores 1.
    scores = {"two": torch.tensor([1.0, 20.0, 30.0, 9.0]), "one": torch.tensor([4.0, 6.0, 7.0, 8.0])}
    costs = {"two": 1.0, "one": 1.0}
    rank = GlobalRank(currency="units")
    assert rank(groups, scores, 1 / 8, Price.linear(groups, costs)) == {"two": 2, "one": 3}
    assert rank(groups, scores, 2 / 8, Price.linear(groups, costs)) == {"two": 1, "one": 3}
    assert rank(groups, scores, 4 / 8, Price.linear(groups, costs)) == {"two": 1, "one": 2}


def test_one_unit_of_every_block_and_the_floor_stay() -> None:
    groups = make(a=(1, 10), b=(1, 10))
    scores = {"a": torch.zeros(10), "b": torch.ones(10)}
    costs = {"a": 1.0, "b": 1.0}
    assert GlobalRank(floor=0.0)(groups, scores, 0.5, Price.linear(groups, costs)) == {"a": 1, "b": 9}
    assert GlobalRank(floor=0.3)(groups, scores, 0.5, Price.linear(groups, costs)) == {"a": 3, "b": 7}
    assert GlobalRank(floor=0.3)(groups, scores, 0.7, Price.linear(groups, costs)) == {"a": 3, "b": 3}


@pytest.mark.parametrize(("normalise", "loser"), [("none", "small"), ("mean", "large"), ("l2", "small")])
def test_normalise(normalise: Literal["none", "mean", "l2"], loser: str) -> None:
    # Against their mean the worst of `large` is worse; against their norm that of `small`, which shares it among more.
    groups = make(small=(1, 8), large=(1, 2))
    scores = {"small": torch.full((8,), 0.01), "large": torch.tensor([50.0, 100.0])}
    found = GlobalRank("units", normalise)(groups, scores, 0.1, Price.linear(groups, {"small": 1.0, "large": 1.0}))
    assert found[loser] == {"small": 7, "large": 1}[loser]


def test_normalising_scores_that_are_all_zero_leaves_them() -> None:
    groups = make(a=(1, 4))
    found = GlobalRank("units", "mean")(groups, {"a": torch.zeros(4)}, 0.5, Price.linear(groups, {"a": 1.0}))
    assert found == {"a": 2}


@pytest.mark.parametrize("normalise", ["none", "mean", "l2"])
def test_what_is_gone_goes_first_and_does_not_count_in_the_norm(normalise: Literal["none", "mean", "l2"]) -> None:
    groups = make(a=(2, 3), b=(1, 6))
    gone = -torch.inf
    scores = {
        "a": torch.tensor([gone, 5.0, 6.0, 7.0, 8.0, gone]),
        "b": torch.tensor([gone, 1.15, 1.15, 1.2, 1.25, 1.25]),
    }
    costs = {"a": 1.0, "b": 1.0}
    rank = GlobalRank("units", normalise)
    assert rank(groups, scores, 3 / 12, Price.linear(groups, costs)) == {"a": 2, "b": 5}
    assert rank(groups, scores, 4 / 12, Price.linear(groups, costs)) == (
        {"a": 1, "b": 5} if normalise == "mean" else {"a": 2, "b": 4}
    )


def test_equal_scores_go_in_the_order_of_the_groups() -> None:
    groups = make(a=(1, 4), b=(1, 4))
    scores = {"a": torch.ones(4), "b": torch.ones(4)}
    assert GlobalRank("units")(groups, scores, 0.25, Price.linear(groups, {"a": 1.0, "b": 1.0})) == {"a": 2, "b": 4}


@given(
    shapes=st.lists(st.tuples(st.integers(1, 3), st.integers(2, 6), st.sampled_from([1.0, 2.0, 7.5])), min_size=1),
    levels=st.integers(1, 5),
    sparsity=st.floats(0.01, 0.6),
    seed=st.integers(0, 1000),
)
def test_removes_the_shortest_run_that_reaches_the_target(
    shapes: list[tuple[int, int, float]], levels: int, sparsity: float, seed: int
) -> None:
    groups = [Group(str(i), n * block, (), block) for i, (n, block, _) in enumerate(shapes)]
    costs = {g.name: cost for g, (_, _, cost) in zip(groups, shapes, strict=True)}
    generator = torch.Generator().manual_seed(seed)
    scores = {g.name: torch.randint(0, levels, (g.n_units,), generator=generator).float() for g in groups}
    total = sum(g.n_units * costs[g.name] for g in groups)
    most = sum((g.n_units - g.n_blocks) * costs[g.name] for g in groups)
    rank = GlobalRank(floor=0.0)
    if most < sparsity * total * (1 - 1e-9):
        with pytest.raises(SecateursError, match="out of reach"):
            rank(groups, scores, sparsity, Price.linear(groups, costs))
        return
    kept = rank(groups, scores, sparsity, Price.linear(groups, costs))
    removed = sum((g.block - kept[g.name]) * g.n_blocks * costs[g.name] for g in groups)
    slices = [g.n_blocks * costs[g.name] for g in groups if kept[g.name] < g.block]
    assert removed >= sparsity * total * (1 - 1e-6)
    assert removed - max(slices) < sparsity * total * (1 + 1e-6)
    assert all(kept[g.name] >= 1 for g in groups)
    more = rank(groups, scores, sparsity / 2, Price.linear(groups, costs))
    assert all(more[g.name] >= kept[g.name] for g in groups)


def test_a_million_units_a_block_or_a_million_blocks() -> None:
    groups = make(flat=(1, 1_000_000), rows=(250_000, 4))
    generator = torch.Generator().manual_seed(0)
    scores = {g.name: torch.rand(g.n_units, generator=generator) for g in groups}
    found = GlobalRank("units")(groups, scores, 0.5, Price.linear(groups, {"flat": 1.0, "rows": 1.0}))
    assert (1e6 - found["flat"]) + 250_000 * (4 - found["rows"]) == pytest.approx(1e6, abs=250_000)


@pytest.mark.parametrize(
    ("rank", "sparsity", "costs", "message"),
    [
        (GlobalRank(floor=0.5), 0.6, 1.0, r"sparsity 0\.6 of macs is out of reach, as floor 0\.5 .* at most 0\.5;"),
        (GlobalRank(floor=0.0), 0.9, 1.0, r"at most 0\.75;"),
        (GlobalRank(), 1.0, 1.0, r"sparsity must be in \[0, 1\), got 1"),
        (GlobalRank(), 0.5, 0.0, "no unit costs any macs"),
    ],
)
def test_contradictions_are_refused(rank: GlobalRank, sparsity: float, costs: float, message: str) -> None:
    with pytest.raises(SecateursError, match=message):
        groups = make(a=(1, 4))
        rank(groups, {"a": torch.ones(4)}, sparsity, Price.linear(groups, {"a": costs}))


def test_floor_outside_its_range_is_refused() -> None:
    with pytest.raises(SecateursError, match=r"global_rank: floor must be in \[0, 1\), got 1"):
        GlobalRank(floor=1.0)


def test_the_price_of_what_is_left_decides_not_the_sum_of_what_units_cost() -> None:
    groups = make(a=(1, 4), b=(1, 4))
    scores = {"a": torch.arange(4.0), "b": torch.arange(4.0)}
    # One layer between the two: 4 x 4 = 16 multiplications, of which each unit alone has a part in 4.
    price = Price({"a": 4.0, "b": 4.0}, lambda counts: float(counts["a"] * counts["b"]))
    assert GlobalRank()(groups, scores, 7 / 16, price) == {"a": 3, "b": 3}
    assert GlobalRank()(groups, scores, 8 / 16, price) == {"a": 2, "b": 3}
