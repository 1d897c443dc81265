"""Step 5 of Algorithm 1, without the network: which p comes next, given which held and which did not."""

from __future__ import annotations

from dataclasses import dataclass, replace

DIGITS = 6
"""Decimals of a p, so that it reads well and is the same number when read back."""


@dataclass(frozen=True)
class Bracket:
    """Where the largest p that holds is still to be found.

    Args:
        start: The first p; also the largest step up.
        tolerance: The search is over when the bracket is narrower than this.
        low: The largest p that held; 0 is the dense network.
        high: The smallest p above it that did not hold; 1 removes everything.
        tried: Whether any p was evaluated.
    """

    start: float
    tolerance: float
    low: float = 0.0
    high: float = 1.0
    tried: bool = False

    @property
    def next(self) -> float | None:
        """The p to evaluate; None when the bracket is narrow.

        While p holds it goes on by ``start``, but never past the middle of the bracket; when it does not, back off to
        the middle between it and the last that held.
        """
        if not self.tried:
            return self.start
        width = self.high - self.low
        if width < self.tolerance:
            return None
        return round(self.low + min(self.start, width / 2), DIGITS)

    def narrowed(self, p: float, holds: bool) -> Bracket:
        """The bracket after p was evaluated."""
        return replace(self, low=p, tried=True) if holds else replace(self, high=p, tried=True)
