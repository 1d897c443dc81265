"""Fine-tune towards what the dense network says: knowledge distillation (Hinton et al. 2015, arXiv:1503.02531).

With the outputs ``z`` of the pruned network and ``z'`` of the dense one, softened by a temperature::

    loss = share * T^2 KL(softmax(z' / T) || softmax(z / T)) + (1 - share) * the task's own loss

The dense network also tells how sure it is, and of what else: healing needs fewer examples than labels alone would.
With hints (Romero et al. 2015, arXiv:1412.6550) its inner layers teach as well, wherever both networks are as wide::

    loss += hints * mean over layers of |h - h'|^2 / |h'|^2
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from secateurs.recoveries._evaluating import evaluating
from secateurs.recoveries.fine_tune import FineTune
from secateurs.types import Batch, SecateursError, Task, name_before

logger = logging.getLogger("secateurs.recoveries")


@dataclass(frozen=True)
class Distill(FineTune):
    """Train as ``fine_tune`` does, with the dense network as the teacher.

    Args:
        temperature: T, above 0; higher tells more of the classes that are not the answer.
        share: Of the teacher's part in the loss, in (0, 1]; below 1 each step runs the pruned network twice.
        hints: Weight of the hints, 0 or more. A hint is what a module made of modules (a block, a stage) returns; those
            that lost width themselves give none.

    Raises:
        SecateursError: A field is outside its range, the train split is empty, there is no dense network, or no layer
            to give a hint.
    """

    temperature: float = 2.0
    share: float = 1.0
    hints: float = 0.0

    def __post_init__(self) -> None:
        """Check every field against its range."""
        super().__post_init__()
        if not self.temperature > 0:
            raise SecateursError(f"distill: temperature must be above 0, got {self.temperature}")
        if not 0 < self.share <= 1:
            raise SecateursError(f"distill: share must be in (0, 1], got {self.share}")
        if not self.hints >= 0:
            raise SecateursError(f"distill: hints must be 0 or more, got {self.hints}")

    def __call__(
        self, model: nn.Module, masks: Mapping[str, Tensor], task: Task, dense: nn.Module | None = None
    ) -> None:
        """Tune in place; the dense network is left as it is."""
        if dense is None:
            raise SecateursError("distill: there is no dense network to learn from; hand it over, or use fine_tune")

        with ExitStack() as stack:
            stack.enter_context(evaluating(dense))
            watched = [stack.enter_context(_returns(network)) for network in (model, dense)] if self.hints else []

            def loss(student: nn.Module, batch: Batch) -> Tensor:
                with torch.no_grad():
                    wanted, _ = task.predict(dense, batch)
                got, _ = task.predict(student, batch)
                total = self.share * self._divergence(got, wanted)
                if watched:
                    total = total + self.hints * _distance(*watched)
                return total if self.share == 1 else total + (1 - self.share) * task.loss(student, batch)

            super().__call__(model, masks, replace(task, loss=loss))

    def _divergence(self, got: Tensor, wanted: Tensor) -> Tensor:
        """``T^2 KL`` of the softened distributions, the mean over examples."""
        log_got, log_wanted = (F.log_softmax(z.float() / self.temperature, dim=-1) for z in (got, wanted))
        return self.temperature**2 * F.kl_div(log_got, log_wanted, reduction="batchmean", log_target=True)


Returns = dict[str, Tensor]
"""Module name, as in the dense network -> what it returned last."""


@contextmanager
def _returns(model: nn.Module) -> Iterator[Returns]:
    """While open, holds what the modules made of modules return; what one hands on from a child counts once."""
    seen: Returns = {}

    def note(name: str, out: Any) -> None:
        tensor = next((x for x in tree_leaves(out) if isinstance(x, Tensor) and x.is_floating_point()), None)
        if tensor is not None and not any(tensor is other for other in seen.values()):
            seen[name] = tensor

    def hook(name: str) -> Callable[..., None]:
        return lambda module, inputs, out: note(name, out)

    modules = ((name_before(model, name), module) for name, module in model.named_modules())
    inner = ((name, m) for name, m in modules if name and next(m.children(), None) is not None)
    handles = [module.register_forward_hook(hook(name)) for name, module in inner]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _distance(got: Returns, wanted: Returns) -> Tensor:
    """Mean over the modules that return one shape in both of ``|h - h'|^2 / |h'|^2``."""
    both = [(got[name], h) for name, h in wanted.items() if name in got and got[name].shape == h.shape]
    if not both:
        raise SecateursError("distill: no block of the network is as wide as it was, to give hints; set hints to 0")
    return torch.stack([F.mse_loss(mine, h) / h.square().mean().clamp_min(1e-12) for mine, h in both]).mean()
