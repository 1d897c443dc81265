"""A constant rate of what remains (Frankle & Carbin 2019; Tanaka et al. 2020): ``s_i = 1 - (1 - S)^(i/n)``."""

from __future__ import annotations

from dataclasses import dataclass

from secateurs.types import SecateursError


@dataclass(frozen=True)
class Exponential:
    """Every round removes the same fraction of the units that are left.

    From a start ``s_0`` on: ``s_i = 1 - (1 - s_0) ((1 - S) / (1 - s_0))^(i/n)``.

    Args:
        rounds: Number of rounds n, at least 1.

    Raises:
        SecateursError: Fewer than one round.
    """

    rounds: int = 5

    def __post_init__(self) -> None:
        """Check the number of rounds."""
        if self.rounds < 1:
            raise SecateursError(f"exponential: rounds must be at least 1, got {self.rounds}")

    def __call__(self, sparsity: float, start: float = 0.0) -> tuple[float, ...]:
        left, rate = 1 - start, (1 - sparsity) / (1 - start)
        return (*(1 - left * rate ** (i / self.rounds) for i in range(1, self.rounds)), sparsity)
