"""Much at first, little at the end (Zhu & Gupta 2017): ``s_t = S + (s_0 - S) (1 - t/n)^3``."""

from __future__ import annotations

from dataclasses import dataclass

from secateurs.types import SecateursError


@dataclass(frozen=True)
class Cubic:
    """Large steps while there is much to spare, small ones as the network gets tight.

    Args:
        rounds: Number of rounds n, at least 1.

    Raises:
        SecateursError: Fewer than one round.
    """

    rounds: int = 5

    def __post_init__(self) -> None:
        """Check the number of rounds."""
        if self.rounds < 1:
            raise SecateursError(f"cubic: rounds must be at least 1, got {self.rounds}")

    def __call__(self, sparsity: float, start: float = 0.0) -> tuple[float, ...]:
        n = self.rounds
        return (*(sparsity + (start - sparsity) * (1 - t / n) ** 3 for t in range(1, n)), sparsity)
