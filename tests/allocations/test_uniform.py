from __future__ import annotations

import pytest
import torch

from secateurs.allocations.uniform import Uniform
from secateurs.types import Group, Price, ReachError, SecateursError


def counts(sparsity: float, *blocks: int) -> list[int]:
    groups = [Group(str(i), 2 * block, (), block) for i, block in enumerate(blocks)]
    found = Uniform()(groups, {g.name: torch.ones(g.n_units) for g in groups}, sparsity, Price.linear(groups, {}))
    return [found[g.name] for g in groups]


def test_same_share_of_every_block_rounded_up_to_whole_units() -> None:
    assert counts(0.5, 4, 10, 12, 7) == [2, 5, 6, 3]
    assert counts(0.25, 4, 10, 12, 7) == [3, 7, 9, 5]
    assert counts(0.0, 4, 10) == [4, 10]


def test_floating_point_does_not_cost_a_unit() -> None:
    assert counts(0.3, 10, 100, 1000) == [7, 70, 700]
    assert counts(1 - 0.9, 10, 100) == [9, 90]


def test_an_empty_block_is_refused() -> None:
    with pytest.raises(SecateursError, match=r"none of the 4 units of a block of 1; ask for at most 0\.75"):
        counts(0.8, 12, 4)


def test_the_most_that_can_be_had_is_told_and_can_be_had() -> None:
    with pytest.raises(ReachError, match=r"block of 1; ask for at most 0\.8571,") as told:
        counts(0.95, 9, 7, 20)
    assert told.value.most == pytest.approx(6 / 7)
    assert counts(0.8571, 9, 7, 20) == [1, 1, 2]


def test_sparsity_outside_its_range_is_refused() -> None:
    with pytest.raises(SecateursError, match=r"uniform: sparsity must be in \[0, 1\), got 1"):
        counts(1.0, 4)
