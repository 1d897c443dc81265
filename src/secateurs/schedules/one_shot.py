"""All at once (Han et al. 2015): ``s_1 = S``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OneShot:
    """One round that goes straight to the target."""

    def __call__(self, sparsity: float, start: float = 0.0) -> tuple[float, ...]:
        return (sparsity,)
