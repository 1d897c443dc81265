"""Backward elimination: units go one after the other, always the cheapest, and the others make up for it.

Of weights ``W`` and the inverse second moments ``H`` of what they multiply a unit costs ``tr(W_u^T (H_uu)^-1 W_u)``;
then ``W -= H_:u (H_uu)^-1 W_u`` and ``H -= H_:u (H_uu)^-1 H_u:``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from secateurs.types import Gram, SecateursError

AT_ONCE = 64
"""Inputs that go before the whole inverse is brought up to date; until then only the columns asked for are."""


def losses(name: str, readers: Sequence[Reader]) -> Tensor:
    """What each unit costs when it goes: ``(n_units,)`` float64 on the CPU, rising in the order in which they go.

    Where a later one costs less than an earlier one, both get their mean (isotonic regression), so that sums are kept.
    There are no ties: the order is in the numbers.

    Args:
        name: Of the criterion, for what is refused.
        readers: All weights that read the units.

    Raises:
        SecateursError: There are none.
    """
    if not readers:
        raise SecateursError(
            f"{name}: no weight of the group reads its units as the inputs of a matrix; use taylor, or name the group "
            "in the structure's keep"
        )
    from scipy.optimize import isotonic_regression

    order, found = _eliminated(readers)
    rising = torch.from_numpy(isotonic_regression(found.numpy()).x)
    rising += torch.arange(len(order)) * torch.finfo(torch.float64).eps * rising.sum()
    return torch.zeros_like(rising).index_copy_(0, order, rising)


def _eliminated(readers: Sequence[Reader]) -> tuple[Tensor, Tensor]:
    """The units in the order in which they go, and what each costs when it does: ``(n_units,)`` each."""
    left, order, found = torch.arange(len(readers[0].blocks)), list[int](), list[float]()
    while len(left):
        gone = torch.zeros(len(left), dtype=torch.bool)
        for _ in range(min(len(left), max(1, AT_ONCE // readers[0].size))):
            costs = torch.stack([reader.costs() for reader in readers]).sum(0).cpu().masked_fill(gone, torch.inf)
            unit = int(costs.argmin())
            gone[unit] = True
            order.append(int(left[unit]))
            found.append(max(0.0, float(costs[unit])))
            for reader in readers:
                reader.remove(unit)
        for reader in readers:
            reader.shrink(~gone)
        left = left[~gone]
    return torch.tensor(order), torch.tensor(found, dtype=torch.float64)


class Reader:
    """A weight that reads units, as ``(f, o)``, and the inverse second moments of their features, ``(f, f)``.

    The inverse lags behind by ``left left^T``; its blocks on the diagonal, ``(n_units, size, size)``, do not.

    Args:
        weight: ``(f, o)``, the features of one unit after those of the other; left alone.
        gram: Of the features.
        units: Their number.
        damping: What is added to the diagonal of the second moments, as a fraction of its mean.
    """

    def __init__(self, weight: Tensor, gram: Gram, units: int, damping: float) -> None:
        self.size = len(weight) // units
        self.weight = weight.float().clone()
        self.inverse = gram.inverse(damping)
        self.blocks = self._diagonal()
        self.left = self.weight.new_zeros(len(weight), 0)

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
