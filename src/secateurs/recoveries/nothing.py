"""No recovery: the pruned weights are used as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from secateurs.types import Task


@dataclass(frozen=True)
class Nothing:
    """Leave the model alone: one-shot pruning, and the control against which every recovery is compared."""

    def __call__(
        self, model: nn.Module, masks: Mapping[str, Tensor], task: Task, dense: nn.Module | None = None
    ) -> None:
        """Change nothing."""
