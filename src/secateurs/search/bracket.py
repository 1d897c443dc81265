"""Step 5 of Algorithm 1, without the network: which p comes next, given which held and which did not.

Pruning goes on from the last network that held and has recovered, so a p that failed in one long step may hold in two.
A failure therefore bounds only what was tried from the same network: when half the step holds, the p that failed is
tried once more from there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

DIGITS = 6
"""Decimals of a p, so that it reads well and is the same number when read back."""


@dataclass(frozen=True)
class Bracket:
    """Where the largest p that holds is still to be found.

    Args:
        step: How far beyond ``low`` the next p lies; at first the p to start with.
        tolerance: The search is over when ``high - low`` is smaller.
        low: The largest p that held; 0 is the dense network.
        high: The p above it that did not hold; 1 removes everything.
        most: The largest p that can be pruned at all; 1: any below it.
    """

    step: float
    tolerance: float
    low: float = 0.0
    high: float = 1.0
    most: float = 1.0

    @property
    def next(self) -> float | None:
        """The p to evaluate; None when the bracket is narrow, or all that can go is gone."""
        if self.high - self.low < self.tolerance or self.low >= self.most:
            return None
        beyond = round(self.low + self.step, DIGITS)
        if beyond < min(self.most, 1):
            return beyond
        return self.most if self.most < 1 else round((self.low + 1) / 2, DIGITS)

    def narrowed(self, p: float, holds: bool) -> Bracket:
        """The bracket after p was evaluated: up to p where it holds, else down to p and half the step."""
        if holds:
            return replace(self, low=p, high=self.high if p < self.high else 1.0, step=p - self.low)
        return replace(self, high=p, step=(p - self.low) / 2)
