"""Keep the best-scored entries, and let them make up for the others by least squares.

Row by row ``w'_S = H_SS^-1 (H w)_S`` with ``H = G + damping`` (He et al. 2017; Meng et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from secateurs.solvers._moments import damped
from secateurs.solvers._refine import refine
from secateurs.solvers._support import support
from secateurs.types import Gram, SecateursError, check_damping


@dataclass(frozen=True)
class LeastSquares:
    """The scores choose; conjugate gradients find the values.

    Args:
        damping: Share of the mean of the Gram matrix' diagonal that is added to the diagonal, at least 0.
        iterations: Of conjugate gradients, at most; at least 1. It ends sooner where nothing more is won.

    Raises:
        SecateursError: A field is outside its range, or the second moments are not finite.
    """

    damping: float = 0.01
    iterations: int = 30

    def __post_init__(self) -> None:
        """Check the fields."""
        check_damping("least_squares", self.damping, zero=True)
        if self.iterations < 1:
            raise SecateursError(f"least_squares: iterations must be at least 1, got {self.iterations}")

    def __call__(self, weight: Tensor, gram: Gram, scores: Tensor, block: int, kept: int) -> tuple[Tensor, Tensor]:
        matrix = gram.once(self, lambda matrix: damped(matrix, self.damping)[0])
        weight, keep = weight.detach().float(), support(scores, block, kept)
        free = keep & (scores > -float("inf"))
        return keep, refine(weight, matrix, weight * free, free, self.iterations)
