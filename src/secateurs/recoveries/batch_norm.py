"""Re-estimate the statistics of normalisation layers on training data (Li et al. 2020, EagleEye, arXiv:2007.02491).

Pruning changes the distribution of every activation behind it; running means and variances gathered by the dense
network no longer describe it. They are reset and gathered anew as plain averages over ``batches`` batches::

    mean = 1/B sum_b mean_b        var = 1/B sum_b var_b        (var_b unbiased, over batch and space)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from secateurs.types import SecateursError, Task


@dataclass(frozen=True)
class BatchNorm:
    """Gather the running statistics of every norm anew; no weight changes. A model without any: nothing happens.

    Args:
        batches: Batches of the train split to average over; fewer where the split is shorter.

    Raises:
        SecateursError: ``batches`` is not positive, or the train split is empty.
    """

    batches: int = 16

    def __post_init__(self) -> None:
        """Check the field."""
        if self.batches < 1:
            raise SecateursError(f"batch_norm: batches must be at least 1, got {self.batches}")

    def __call__(
        self, model: nn.Module, masks: Mapping[str, Tensor], task: Task, dense: nn.Module | None = None
    ) -> None:
        """Average the statistics over the first ``batches`` training batches; masked entries stay zero."""
        norms = [m for m in model.modules() if isinstance(m, _NormBase) and m.running_mean is not None]
        if not norms:
            return
        batches = list(itertools.islice(task.splits["train"], self.batches))
        if not batches:
            raise SecateursError(
                f"batch_norm: the train split of task '{task.name}' is empty; give it at least one batch"
            )
        with _averaging(model, norms), torch.no_grad():
            for batch in batches:
                task.loss(model, batch)
        buffers = dict(model.named_buffers(remove_duplicate=False))
        for name in masks.keys() & buffers.keys():
            buffers[name].masked_fill_(~masks[name].to(buffers[name].device), 0)


@contextmanager
def _averaging(model: nn.Module, norms: list[_NormBase]) -> Iterator[None]:
    """Only the norms in train mode, averaging over all batches with equal weight; modes and momenta come back."""
    modes = {module: module.training for module in model.modules()}
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
