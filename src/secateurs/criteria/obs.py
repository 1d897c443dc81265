"""Structured optimal brain surgeon: ``tr(W_u^T ((G^-1)_uu)^-1 W_u)`` (Hassibi & Stork 1993; Kurtic et al. 2023, ZipLM).

With ``G = E[x x^T]`` of the inputs of the weights that read the units, it is the least that ``||(W - W') x||^2`` grows
by when a unit's inputs go, and those of the others make up for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateurs.types import Need, Rows, SecateursError

AT_ONCE = 64
"""Inputs that go before the whole inverse is brought up to date; until then only the columns asked for are."""


@dataclass(frozen=True)
class Obs:
    """What each unit costs when the units go one after the other, always the cheapest, the others making up for it.

    The scores rise in the order of removal, so that what stays at any count is what backward elimination leaves. Where
    a later removal costs less than an earlier one, both are given their mean (isotonic regression): sums of scores are
    what is lost, and layers can be ranked together by them. Several weights that read a unit add up. The values that
    make up for it are found by the recovery ``reconstruct``; inputs that are no units of the group do not take part.

    Args:
        damping: What is added to the diagonal of the second moments, as a fraction of its mean; above 0.

    Raises:
        SecateursError: The damping is out of range, or no weight reads the units.
    """

    damping: float = 0.01

    needs: ClassVar[frozenset[Need]] = frozenset({"weight", "gram"})

    def __post_init__(self) -> None:
        """Check the damping."""
        if not 0 < self.damping < float("inf"):
            raise SecateursError(f"obs: damping must be above 0, got {self.damping}")

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        from scipy.optimize import isotonic_regression

        readers = [_Reader(r, self.damping) for r in rows if r.gram is not None]
        if not readers:
            raise SecateursError("obs: no weight of the group reads its units as the inputs of a matrix; use taylor")
        order, losses = _eliminated(readers, len(rows[0].weight))
        rising = torch.from_numpy(isotonic_regression(losses.numpy()).x)
        rising += torch.arange(len(order)) * torch.finfo(torch.float64).eps * rising.sum()  # no ties: the order counts
        return torch.zeros_like(rising).index_copy_(0, order, rising).to(rows[0].weight.device)


def _eliminated(readers: Sequence[_Reader], n_units: int) -> tuple[Tensor, Tensor]:
    """The units in the order in which they go, and what each costs when it does: ``(n_units,)`` each."""
    left, order, losses = torch.arange(n_units), list[int](), list[float]()
    while len(left):
        gone = torch.zeros(len(left), dtype=torch.bool)
        for _ in range(min(len(left), max(1, AT_ONCE // readers[0].size))):
            costs = torch.stack([reader.costs() for reader in readers]).sum(0).cpu().masked_fill(gone, torch.inf)
            unit = int(costs.argmin())
            gone[unit] = True
            order.append(int(left[unit]))
            losses.append(max(0.0, float(costs[unit])))
            for reader in readers:
                reader.remove(unit)
        for reader in readers:
            reader.shrink(~gone)
        left = left[~gone]
    return torch.tensor(order), torch.tensor(losses, dtype=torch.float64)


class _Reader:
    """A weight that reads units, as ``(f, o)``, and the inverse second moments of their features, ``(f, f)``.

    The inverse lags behind by ``left left^T``; its blocks on the diagonal, ``(n_units, size, size)``, do not.
    """

    def __init__(self, rows: Rows, damping: float) -> None:
        assert rows.gram is not None
        features, units = len(rows.gram.matrix), len(rows.weight)
        self.size = features // units
        self.weight = rows.weight.reshape(features, -1).float().clone()
        self.inverse = rows.gram.once(("inverse", damping), lambda matrix: _inverse(matrix, damping)).clone()
        self.blocks = self._diagonal()
        self.left = self.weight.new_zeros(features, 0)

    def _diagonal(self) -> Tensor:
        units = len(self.inverse) // self.size
        return self.inverse.view(units, self.size, units, self.size).diagonal(dim1=0, dim2=2).permute(2, 0, 1).clone()

    def costs(self) -> Tensor:
        """What each unit costs now: ``(n_units,)``."""
        weight = self.weight.view(len(self.blocks), self.size, -1)
        if self.size == 1:
            squares: Tensor = torch.linalg.vector_norm(weight, dim=(1, 2)).square()
            return squares / self.blocks.flatten()
        factor = torch.linalg.cholesky(self.blocks)
        whitened: Tensor = torch.linalg.solve_triangular(factor, weight, upper=False)
        return whitened.square().sum((1, 2))

    def remove(self, unit: int) -> None:
        """Let the others make up for a unit."""
        at = slice(unit * self.size, (unit + 1) * self.size)
        columns = self.inverse[:, at] - self.left @ self.left[at].T
        factor = torch.linalg.cholesky(columns[at])
        new = torch.linalg.solve_triangular(factor, columns.T, upper=False).T
        self.weight.addmm_(new, torch.linalg.solve_triangular(factor, self.weight[at], upper=False), alpha=-1)
        self.left = torch.cat([self.left, new], dim=1)
        new = new.reshape(len(self.blocks), self.size, self.size)
        self.blocks.baddbmm_(new, new.mT, alpha=-1)
        self.blocks[unit] = torch.eye(self.size)  # it is gone: any that can be factored

    def shrink(self, stay: Tensor) -> None:
        """Bring the inverse up to date; units that are gone leave it."""
        features = stay.repeat_interleave(self.size).to(self.weight.device)
        self.inverse.addmm_(self.left, self.left.T, alpha=-1)
        self.inverse, self.weight = self.inverse[features][:, features], self.weight[features]
        self.left, self.blocks = self.weight.new_zeros(len(self.weight), 0), self._diagonal()


def _inverse(matrix: Tensor, damping: float) -> Tensor:
    """Of the damped second moments; in double precision on the way where the device has it."""
    wide = matrix.to(torch.float32 if matrix.device.type == "mps" else torch.float64, copy=True)
    wide.diagonal().add_(damping * wide.diagonal().mean().clamp_min(1e-30))
    return torch.cholesky_inverse(torch.linalg.cholesky(wide)).float()
