"""A jump, then a straight line: ``s_t = s_0 + (S - s_0) t / T`` (as in the warm-up of CoFi, Xia et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from secateurs.types import SecateursError


@dataclass(frozen=True)
class Linear:
    """A first round that goes part of the way, then equal steps.

    With ``jump`` = 0 this is ``iterative``. With a jump the first round is t = 0 of the formula, so T is one less.

    Args:
        rounds: Number of rounds, at least 1; at least 2 with a jump.
        jump: Part of the way from the start to the target that the first round goes, in [0, 1): it sets ``s_0``.

    Raises:
        SecateursError: A field is outside its range.
    """

    rounds: int = 5
    jump: float = 0.5

    def __post_init__(self) -> None:
        """Check both fields."""
        if not 0 <= self.jump < 1:
            raise SecateursError(f"linear: jump must be in [0, 1), got {self.jump}")
        if self.rounds < (2 if self.jump else 1):
            raise SecateursError(f"linear: rounds must be at least {2 if self.jump else 1}, got {self.rounds}")

    def __call__(self, sparsity: float, start: float = 0.0) -> tuple[float, ...]:
        first, n = start + self.jump * (sparsity - start), self.rounds
        steps = range(n - 1) if self.jump else range(1, n)
        last = n - 1 if self.jump else n
        return (*(first + (sparsity - first) * t / last for t in steps), sparsity)
