from __future__ import annotations

import pytest

from secateurs.allocations.erk import Erk
from secateurs.types import Group, Price


def layer(name: str, *grid: int) -> Group:
    n = 1
    for size in grid:
        n *= size
    return Group(name, n, (), n, grid=grid)


def densities(*groups: Group, sparsity: float) -> dict[str, float]:
    found = Erk()(groups, {}, sparsity, Price.linear(groups, {group.name: 1.0 for group in groups}))
    return {group.name: found[group.name] / group.block for group in groups}


def test_densities_are_as_the_sum_of_the_sizes_to_their_product() -> None:
    found = densities(layer("wide", 100, 400), layer("square", 200, 200), sparsity=0.9)
    assert found["wide"] / found["square"] == pytest.approx(500 / 400, rel=1e-3)
    assert (found["wide"] + found["square"]) / 2 == pytest.approx(0.1, abs=1e-4)


def test_kernels_have_sizes_too() -> None:
    found = densities(layer("conv", 64, 64, 3, 3), layer("linear", 64, 576), sparsity=0.8)
    assert found["conv"] / found["linear"] == pytest.approx((64 + 64 + 3 + 3) / (64 + 576), rel=1e-3)


def test_a_small_layer_stays_whole_and_the_others_pay() -> None:
    found = densities(layer("small", 10, 10), layer("large", 200, 500), sparsity=0.5)
    assert found["small"] == 1
    assert found["large"] == pytest.approx(0.4995, abs=1e-4)


def test_without_single_weights_blocks_are_the_rows() -> None:
    rows = Group("rows", 40_000, (), 400)
    assert densities(rows, layer("wide", 100, 400), sparsity=0.5) == {"rows": 0.5, "wide": 0.5}
