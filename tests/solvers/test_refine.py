from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from secateurs.solvers import _refine
from secateurs.solvers._refine import refine


def exact(weight: Tensor, matrix: Tensor, keep: Tensor) -> Tensor:
    values = torch.zeros_like(weight)
    for row, (w, k) in enumerate(zip(weight, keep, strict=True)):
        values[row, k] = torch.linalg.solve(matrix[k][:, k], (matrix @ w)[k])
    return values


def problem() -> tuple[Tensor, Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    samples = torch.randn(40, 10, generator=source)
    keep = torch.rand(6, 10, generator=source) < 0.5
    keep[0], keep[1] = False, True
    return torch.randn(6, 10, generator=source), samples.T @ samples, keep


def test_the_least_squares_of_every_row() -> None:
    weight, matrix, keep = problem()
    found = refine(weight, matrix, weight * keep, keep, 30)
    torch.testing.assert_close(found, exact(weight, matrix, keep), rtol=1e-3, atol=1e-4)
    assert not found[~keep].any()


def test_every_iteration_loses_less() -> None:
    weight, matrix, keep = problem()
    gaps = [weight - refine(weight, matrix, weight * keep, keep, n) for n in range(4)]
    losses = [((gap @ matrix) * gap).sum(dim=1) for gap in gaps]
    for before, after in pairwise(losses):
        assert (after <= before * (1 + 1e-5) + 1e-4).all()


def test_rows_in_pieces_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, matrix, keep = problem()
    whole = refine(weight, matrix, weight * keep, keep, 5)
    monkeypatch.setattr(_refine, "_AT_ONCE", 40)
    torch.testing.assert_close(refine(weight, matrix, weight * keep, keep, 5), whole)
