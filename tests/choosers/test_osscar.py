from __future__ import annotations

from itertools import combinations

import pytest
import torch

from secateurs.choosers.osscar import Osscar
from secateurs.criteria.obs import Obs
from secateurs.types import Gram, Rows, SecateursError


def given(units: int, size: int, seed: int) -> Rows:
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(50, units * size, generator=source) @ torch.randn(units * size, units * size, generator=source)
    return Rows(torch.randn(units, size * 2, generator=source), gram=Gram(x.T @ x))


def least_loss(rows: Rows, keep: torch.Tensor) -> float:
    """What is lost of the outputs when these units stay and the best values are found for them."""
    assert rows.gram is not None
    matrix = rows.gram.matrix.double()
    matrix = matrix + 0.01 * matrix.diagonal().mean() * torch.eye(len(matrix))
    weight = rows.weight.double().reshape(len(matrix), -1)
    kept = keep.repeat_interleave(len(matrix) // len(keep))
    new = torch.zeros_like(weight)
    new[kept] = torch.linalg.solve(matrix[kept][:, kept], (matrix @ weight)[kept])
    return float(((weight - new) * (matrix @ (weight - new))).sum())


def subsets(units: int, kept: int) -> list[torch.Tensor]:
    return [torch.isin(torch.arange(units), torch.tensor(s)) for s in combinations(range(units), kept)]


@pytest.mark.parametrize("size", [1, 3])
def test_near_the_best_of_all_subsets_and_never_worse_than_the_start(size: int) -> None:
    hits = 0
    for seed in range(10):
        rows = given(6, size, seed)
        scores = torch.rand(6, generator=torch.Generator().manual_seed(seed))
        start = torch.zeros(6, dtype=torch.bool).scatter(0, scores.topk(3).indices, True)
        lost = least_loss(rows, Osscar()([rows], scores, 6, 3))
        best = min(least_loss(rows, keep) for keep in subsets(6, 3))
        assert best * (1 - 1e-4) <= lost <= least_loss(rows, start) * (1 + 1e-4)
        hits += lost <= best * (1 + 1e-4)
    assert hits >= 7


def test_exchanges_mend_what_elimination_one_by_one_gets_wrong() -> None:
    better = 0
    for seed in range(30):
        rows = given(6, 1, seed)
        scores = Obs()([rows])
        start = torch.zeros(6, dtype=torch.bool).scatter(0, scores.topk(2).indices, True)
        before, after = (least_loss(rows, keep) for keep in (start, Osscar()([rows], scores, 6, 2)))
        assert after <= before * (1 + 1e-4)
        better += after < before * 0.999
    assert better


def test_many_units_are_exchanged_at_a_time() -> None:
    rows = given(120, 1, 0)
    scores = -torch.arange(120.0)
    start = scores > -60
    at_once, one = (Osscar(swaps=n, tries=20)([rows], scores, 120, 60) for n in (100, 1))
    assert least_loss(rows, at_once) < least_loss(rows, one) < least_loss(rows, start)


def test_exchanges_stay_inside_a_block() -> None:
    rows = given(6, 1, 3)
    scores = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    keep = Osscar()([rows], scores, 3, 1)
    assert keep.view(2, 3).sum(1).tolist() == [1, 1]
    assert least_loss(rows, keep) < least_loss(rows, scores > 0)


def test_where_no_matrix_reads_the_units_the_best_scored_stay_and_bad_fields_are_refused() -> None:
    for fields in ({"swaps": 0}, {"tries": 0}, {"damping": 0.0}):
        with pytest.raises(SecateursError, match="osscar"):
            Osscar(**fields)  # type: ignore[arg-type]
    assert Osscar()([Rows(torch.ones(3, 1))], torch.tensor([1.0, 3.0, 2.0]), 3, 2).tolist() == [False, True, True]
