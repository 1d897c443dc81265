"""What the loss becomes without a unit: ``L(without it) - L`` (Kim et al. 2024, Shortened LLaMA, arXiv:2402.02834)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from secateurs.types import Need, Rows


@dataclass(frozen=True)
class LossIncrease:
    """The mean loss of the network without the unit, less its mean loss; below 0 where the network is better without.

    Nothing is approximated but the data: every unit costs a pass over the calibration batches. That is meant for blocks
    and heads, of which there are few. The ranking by perplexity without a block is the same, perplexity being the
    exponential of the loss. In several rounds (``iterative``) it is the greedy choice: each round asks what the network
    that is left can do without.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"loss_increase"})

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        increase = rows[0].loss_increase
        assert increase is not None
        return increase[:, 0].float()
