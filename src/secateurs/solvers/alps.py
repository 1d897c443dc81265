"""Support and values together, by the alternating direction method of multipliers (Meng et al. 2024).

Minimises ``tr((W - W') H (W - W')^T)`` where ``W' = D`` and D has the zeros asked for, the inputs being scaled such
that H has a diagonal of ones: ``W' = (W H - V + rho D)(H + rho)^-1``, ``D = P(W' + V / rho)``,
``V += rho (W' - D)``, P keeping the largest of every block. rho grows the slower the less the support moves; what
stays is then refined.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secateurs.solvers._moments import damped
from secateurs.solvers._refine import refine
from secateurs.solvers._support import support
from secateurs.types import Gram, SecateursError, check_damping

_GROWTH = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))
"""Share of the kept entries that moved at least -> by what rho grows."""


@dataclass(frozen=True)
class Alps:
    """ADMM, then conjugate gradients on what stays. The scores are not looked at, but for entries that are gone.

    Args:
        damping: Share of the mean of the Gram matrix' diagonal that is added to the diagonal, at least 0.
        rho: At the start, above 0; against a diagonal of ones.
        iterations: Of ADMM, at most; it ends when the support has come to rest.
        refinements: Iterations of conjugate gradients at the end.

    Raises:
        SecateursError: A field is outside its range, or the second moments are not finite.
    """

    damping: float = 0.01
    rho: float = 0.1
    iterations: int = 300
    refinements: int = 10

    def __post_init__(self) -> None:
        """Check the fields."""
        check_damping("alps", self.damping, zero=True)
        if not 0 < self.rho < float("inf"):
            raise SecateursError(f"alps: rho must be above 0, got {self.rho}")
        if self.iterations < 1 or self.refinements < 0:
            raise SecateursError("alps: iterations must be at least 1, and refinements at least 0")

    def __call__(self, weight: Tensor, gram: Gram, scores: Tensor, block: int, kept: int) -> tuple[Tensor, Tensor]:
        matrix, scale, basis, spectrum = gram.once(self, self._decomposed)
        weight, gone = weight.detach().float(), scores == -torch.inf
        keep, values = self._alternate(weight * scale, basis, spectrum, gone, block, kept)
        free = keep & ~gone
        return keep, refine(weight, matrix, values.div_(scale).mul_(free), free, self.refinements)

    def _decomposed(self, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """H; the roots of its diagonal; eigenvectors and eigenvalues of H with a diagonal of ones."""
        made, _ = damped(matrix, self.damping)
        scale = made.diagonal().sqrt()
        spectrum, basis = torch.linalg.eigh(made / scale / scale[:, None])
        return made, scale, basis, spectrum.clamp(min=0.0)

    def _alternate(
        self, weight: Tensor, basis: Tensor, spectrum: Tensor, gone: Tensor, block: int, kept: int
    ) -> tuple[Tensor, Tensor]:
        """Support, and values on it, of a weight whose inputs are scaled."""
        rho, pull = self.rho, (weight @ basis) * spectrum
        dual, sparse = torch.zeros_like(weight), weight
        keep = settled = support(weight.square().masked_fill_(gone, -torch.inf), block, kept)
        for step in range(1, self.iterations + 1):
            dense = torch.addmm(pull, rho * sparse - dual, basis).div_(spectrum + rho) @ basis.T
            full = torch.add(dense, dual, alpha=1 / rho)
            keep = support(full.square().masked_fill_(gone, -torch.inf), block, kept)
            sparse = full * keep
            dual = (full - sparse).mul_(rho)
            if step % 3 == 0:
                moved = int((keep ^ settled).sum())
                if not moved:
                    break
                rho *= next(growth for share, growth in _GROWTH if moved >= share * int(keep.sum()))
                settled = keep
        return keep, sparse
