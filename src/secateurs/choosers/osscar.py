"""Combinatorial local search over whole inputs (Meng et al. 2024, OSSCAR, arXiv:2403.12983).

With ``H = E[x x^T]``, damped, of the inputs of a weight ``W`` that reads the units, what the units ``P`` take with them
when they go together and the others make up for it is ``tr(W_P^T ((H^-1)_PP)^-1 W_P)``. Units are exchanged as long as
that falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateurs.choosers._best import best
from secateurs.types import Need, Rows, SecateursError, check_damping


@dataclass(frozen=True)
class Osscar:
    """Start from the best-scored units, and exchange some for some of those that go, while less is lost by it.

    In each try the units that are missed most come back, and of all that are then there as many go as cost least, with
    all others making up for them. A try by which nothing is won is repeated with half as many, down to one. So it never
    loses more than the start, which with the criterion ``obs`` is that of backward elimination. Where no matrix reads
    the units, as with convolutions and experts in stacked tensors, the best-scored stay.

    Args:
        swaps: Units of a block that are exchanged at a time at first; at least 1.
        tries: At most; at least 1.
        damping: What is added to the diagonal of the second moments, as a fraction of its mean; above 0.

    Raises:
        SecateursError: A field is out of range.
    """

    swaps: int = 100
    tries: int = 50
    damping: float = 0.01

    needs: ClassVar[frozenset[Need]] = frozenset({"weight", "gram"})

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.swaps < 1 or self.tries < 1:
            raise SecateursError(f"osscar: swaps and tries must be at least 1, got {self.swaps} and {self.tries}")
        check_damping("osscar", self.damping)

    def __call__(self, rows: Sequence[Rows], scores: Tensor, block: int, kept: int) -> Tensor:
        readers = [_Reader(r, self.damping) for r in rows if r.gram is not None]
        stays = best(scores, kept, block)
        back = ~stays & (scores > -torch.inf)
        at_once = min(self.swaps, kept, int(back.view(-1, block).sum(1).min()))
        if not readers or not at_once:
            return stays
        state = _weighed(readers, stays)
        for _ in range(self.tries):
            more = stays | best(state.missed.where(back, -torch.inf), at_once, block)
            other = more & ~best(-_weighed(readers, more).cost.where(more, torch.inf), at_once, block)
            new = _weighed(readers, other)
            if new.lost < state.lost * (1 - 1e-6):
                stays, state = other, new
                back = ~stays & (scores > -torch.inf)
            elif at_once > 1:
                at_once //= 2
            else:
                break
        return stays


@dataclass(frozen=True)
class _State:
    """What is lost in all, what would be with each unit less, and what would not be with each unit more."""

    lost: float
    cost: Tensor
    missed: Tensor


def _weighed(readers: Sequence[_Reader], stays: Tensor) -> _State:
    """Of all weights that read the units, on the CPU; cost and missed are ``(n_units,)``, 0 where they say nothing."""
    lost, cost, missed = 0.0, torch.zeros(len(stays)), torch.zeros(len(stays))
    for reader in readers:
        state = reader.weighed(stays)
        lost, cost, missed = lost + state.lost, cost + state.cost.cpu(), missed + state.missed.cpu()
    return _State(lost, cost, missed)


class _Reader:
    """A weight that reads units, as ``(f, o)``, and the inverse second moments of their features, ``(f, f)``."""

    def __init__(self, rows: Rows, damping: float) -> None:
        assert rows.gram is not None
        self.inverse = rows.gram.inverse(damping)
        self.size = len(self.inverse) // len(rows.weight)
        self.weight = rows.weight.reshape(len(self.inverse), -1).float()

    def weighed(self, stays: Tensor) -> _State:
        here = stays.repeat_interleave(self.size).to(self.weight.device)
        both, gone = self.inverse[~here], self.weight[~here]
        factor = torch.linalg.cholesky(both[:, ~here])
        missed = torch.cholesky_solve(gone, factor)
        shared = torch.linalg.solve_triangular(factor, both[:, here], upper=False)
        left = self.weight[here] - both[:, here].T @ missed
        cost, gain = torch.zeros(len(stays)), torch.zeros(len(stays))
        cost[stays] = self._quadratic(self._blocks(self.inverse[here][:, here] - shared.T @ shared), left)
        gain[~stays] = self._quadratic(self._blocks(torch.cholesky_inverse(factor)), missed)
        return _State(float((gone * missed).sum()), cost, gain)

    def _blocks(self, matrix: Tensor) -> Tensor:
        """Those on the diagonal, one for each unit: ``(units, size, size)``."""
        units = len(matrix) // self.size
        return matrix.view(units, self.size, units, self.size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)

    def _quadratic(self, blocks: Tensor, weight: Tensor) -> Tensor:
        """``tr(W_u^T B_u^-1 W_u)`` of each unit, on the CPU."""
        factor = torch.linalg.cholesky(blocks)
        whitened = torch.linalg.solve_triangular(
            factor, weight.view(len(blocks), self.size, weight.shape[1]), upper=False
        )
        total: Tensor = whitened.square().sum((1, 2)).cpu()
        return total
