"""Checks of the parts that choose and update the entries of a weight together: solvers."""

from __future__ import annotations

import torch
from torch import Tensor

from secateurs.testing.claims import check_spec, generator, require
from secateurs.types import Gram, Solver

_OUTPUTS, _INPUTS, _DEAD = 6, 24, 5


def check_solver(solver: Solver) -> None:
    """Exact counts, zeros where dropped, and no more lost than by keeping the best-scored entries as they are.

    Asked for N:M, rows and the whole layer; from many samples, from fewer than there are inputs, with an input that is
    always zero, and with entries that are gone already.

    Raises:
        AssertionError: It does not conform.
    """
    check_spec("solver", solver)
    source = generator()
    mixed = torch.eye(_INPUTS) + 0.3 * torch.randn(_INPUTS, _INPUTS, generator=source)
    for samples in (200, 10):
        inputs = torch.randn(samples, _INPUTS, generator=source) @ mixed
        inputs[:, _DEAD] = 0
        gram = Gram(inputs.T @ inputs)
        weight = torch.randn(_OUTPUTS, _INPUTS, generator=source)
        scores = weight.abs() * gram.matrix.diagonal().sqrt()
        for block, kept in ((4, 2), (8, 3), (_INPUTS, 11), (_OUTPUTS * _INPUTS, 71)):
            _check(solver, weight, gram, scores, (block, kept))
            gone = torch.rand(weight.shape, generator=source) < 0.2
            some = scores.masked_fill(gone, -torch.inf)
            _check(solver, weight.masked_fill(gone, 0), gram, some, (block, kept))


def _check(solver: Solver, weight: Tensor, gram: Gram, scores: Tensor, ask: tuple[int, int]) -> None:
    block, kept = ask
    said = f"{solver}, asked for {kept} of every {block},"
    before = [t.clone() for t in (weight, gram.matrix, scores)]
    keep, values = solver(weight, gram, scores, block, kept)
    left = all(map(torch.equal, before, (weight, gram.matrix, scores)))
    require(left, f"{said} changes what it is given")
    require(keep.dtype == torch.bool and keep.shape == weight.shape, f"{said} gives no bool for each entry")
    require(values.dtype == torch.float32 and values.shape == weight.shape, f"{said} gives no float32 for each entry")
    counts = keep.reshape(-1, block).sum(dim=1)
    require(bool((counts == kept).all()), f"{said} keeps {sorted(set(counts.tolist()))}")
    require(bool(values.isfinite().all()), f"{said} gives values that are not finite")
    require(not values[~keep].any(), f"{said} leaves values where it keeps nothing")
    require(not values[scores == -torch.inf].any(), f"{said} brings back what is gone")
    again, same = solver(weight, Gram(gram.matrix.clone()), scores, block, kept)
    require(torch.equal(keep, again) and torch.equal(values, same), f"{said} gives another result the second time")
    as_they_are = torch.zeros_like(keep)
    best = scores.reshape(-1, block).argsort(dim=1, descending=True, stable=True)[:, :kept]
    as_they_are.reshape(-1, block).scatter_(1, best, True)
    lost, bound = _lost(weight, values, gram.matrix), _lost(weight, weight * as_they_are, gram.matrix)
    require(lost <= bound * (1 + 1e-3), f"{said} loses {lost:.6g}, and the best-scored as they are {bound:.6g}")


def _lost(weight: Tensor, values: Tensor, matrix: Tensor) -> float:
    """``tr((W - W') G (W - W')^T)``."""
    gap = (weight - values).double()
    return float(((gap @ matrix.double()) * gap).sum())
