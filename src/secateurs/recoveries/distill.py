"""Fine-tune towards what the dense network says: knowledge distillation (Hinton et al. 2015, arXiv:1503.02531).

With the outputs ``z`` of the pruned network and ``z'`` of the dense one, softened by a temperature::

    loss = share * T^2 KL(softmax(z' / T) || softmax(z / T)) + (1 - share) * the task's own loss

The dense network also tells how sure it is, and of what else: healing needs fewer examples than labels alone would.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateurs.recoveries.fine_tune import FineTune
from secateurs.types import Batch, SecateursError, Task

logger = logging.getLogger("secateurs.recoveries")


@dataclass(frozen=True)
class Distill(FineTune):
    """Train as ``fine_tune`` does, with the dense network as the teacher.

    Args:
        temperature: T, above 0; higher tells more of the classes that are not the answer.
        share: Of the teacher's part in the loss, in (0, 1]; below 1 each step runs the pruned network twice.

    Raises:
        SecateursError: A field is outside its range, the train split is empty, or there is no dense network.
    """

    temperature: float = 2.0
    share: float = 1.0

    def __post_init__(self) -> None:
        """Check every field against its range."""
        super().__post_init__()
        if not self.temperature > 0:
            raise SecateursError(f"distill: temperature must be above 0, got {self.temperature}")
        if not 0 < self.share <= 1:
            raise SecateursError(f"distill: share must be in (0, 1], got {self.share}")

    def __call__(
        self, model: nn.Module, masks: Mapping[str, Tensor], task: Task, dense: nn.Module | None = None
    ) -> None:
        """Tune in place; the dense network is left as it is."""
        if dense is None:
            raise SecateursError("distill: there is no dense network to learn from; hand it over, or use fine_tune")

        def loss(student: nn.Module, batch: Batch) -> Tensor:
            with torch.no_grad():
                wanted, _ = task.predict(dense, batch)
            got, _ = task.predict(student, batch)
            taught = self._divergence(got, wanted)
            return taught if self.share == 1 else self.share * taught + (1 - self.share) * task.loss(student, batch)

        with _evaluating(dense):
            super().__call__(model, masks, replace(task, loss=loss))

    def _divergence(self, got: Tensor, wanted: Tensor) -> Tensor:
        """``T^2 KL`` of the softened distributions, the mean over examples."""
        log_got, log_wanted = (F.log_softmax(z.float() / self.temperature, dim=-1) for z in (got, wanted))
        return self.temperature**2 * F.kl_div(log_got, log_wanted, reduction="batchmean", log_target=True)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
