"""Equal steps with recovery between them (Han et al. 2015): ``s_i = s_0 + (S - s_0) i / n``."""

from __future__ import annotations

from dataclasses import dataclass

from secateurs.types import SecateursError


@dataclass(frozen=True)
class Iterative:
    """Equal steps: every round removes the same fraction of what there was at first.

    Args:
        rounds: Number of rounds n, at least 1.

    Raises:
        SecateursError: Fewer than one round.
    """

    rounds: int = 5

    def __post_init__(self) -> None:
        """Check the number of rounds."""
        if self.rounds < 1:
            raise SecateursError(f"iterative: rounds must be at least 1, got {self.rounds}")

    def __call__(self, sparsity: float, start: float = 0.0) -> tuple[float, ...]:
        n = self.rounds
        return (*(start + (sparsity - start) * i / n for i in range(1, n)), sparsity)
