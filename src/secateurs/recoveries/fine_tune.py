"""Fine-tune the surviving weights on the user's own loss: AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101).

The learning rate rises linearly over the warm-up and falls to zero, linearly or as a half cosine::

    w <- w - lr_t * (m_t / (sqrt(v_t) + eps) + weight_decay * w)        weight_decay = 0 for vectors (biases, norms)

The gradient is that of ``loss + l1 sum |w|``, which draws weights towards zero ahead of the next round.

A part of the train split is held out: the weights kept are those of its lowest loss, the state before tuning included,
and tuning ends early once that loss has come to rest.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from secateurs.recoveries._hold_out import hold_out
from secateurs.types import Batch, SecateursError, Task

logger = logging.getLogger("secateurs.recoveries")


@dataclass(frozen=True)
class FineTune:
    """Train with AdamW; dropped units stay dropped; the best weights on held-out training batches are kept.

    Args:
        epochs: Passes over the train split; a fraction trains for that part of its batches.
        learning_rate: The peak.
        weight_decay: Decoupled; parameters of fewer than two axes are spared.
        l1: Strength of the L1 norm in the loss; 0 or more, vectors are spared likewise.
        warmup: Fraction of the steps over which the learning rate rises.
        decay: How it falls to zero afterwards.
        clip: Largest L2 norm of the gradient of one step.
        validation_fraction: Fraction of the batches used that is held out of the train split, evenly spread; never
            fewer than eight batches where the split has 32.
        evaluations: Held-out evaluations per epoch; the last step is always evaluated.
        patience: Evaluations over which convergence is judged, all of them after the warm-up.
        tolerance: Stop when the held-out loss stayed within this fraction of itself over ``patience`` evaluations and
            the one before; 0 stops only where it did not move at all.

    Raises:
        SecateursError: A field is outside its range, or the train split is empty.
    """

    epochs: float = 1.0
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    l1: float = 0.0
    warmup: float = 0.1
    decay: Literal["linear", "cosine"] = "linear"
    clip: float = 1.0
    validation_fraction: float = 0.05
    evaluations: int = 4
    patience: int = 4
    tolerance: float = 5e-3

    def __post_init__(self) -> None:
        """Check every field against its range."""
        ranges: dict[str, tuple[bool, str]] = {
            "epochs": (self.epochs > 0, "above 0"),
            "learning_rate": (self.learning_rate > 0, "above 0"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "l1": (self.l1 >= 0, "0 or more"),
            "warmup": (0 <= self.warmup < 1, "in [0, 1)"),
            "decay": (self.decay in ("linear", "cosine"), "linear or cosine"),
            "clip": (self.clip > 0, "above 0"),
            "validation_fraction": (0 < self.validation_fraction <= 0.5, "in (0, 0.5]"),
            "evaluations": (self.evaluations >= 1, "at least 1"),
            "patience": (self.patience >= 1, "at least 1"),
            "tolerance": (0 <= self.tolerance < 1, "in [0, 1)"),
        }
        for name, (holds, allowed) in ranges.items():
            if not holds:
                raise SecateursError(f"fine_tune: {name} must be {allowed}, got {getattr(self, name)}")

    def __call__(
        self, model: nn.Module, masks: Mapping[str, Tensor], task: Task, dense: nn.Module | None = None
    ) -> None:
        """Tune in place; the random state is the caller's (``torch.manual_seed``)."""
        batches = task.splits["train"]
        n_batches = len(batches) if isinstance(batches, Sized) else sum(1 for _ in batches)
        if n_batches == 0:
            raise SecateursError(f"fine_tune: the train split of task '{task.name}' is empty; give it a batch at least")
        steps = max(1, round(self.epochs * n_batches))
        wanted = max(min(8, n_batches // 4), round(self.validation_fraction * min(n_batches, steps)))
        held_out, rest = hold_out(batches, n_batches, wanted)
        modes = {module: module.training for module in model.modules()}
        pinned = Pinned(model, masks)
        pinned.zero_()
        best = Best(model)
        best.offer(_mean_loss(model, held_out, task))
        every = max(1, n_batches // self.evaluations)
        for step in self._steps(model, pinned, task, rest, steps):
            if step % every == 0 or step == steps:
                best.offer(_mean_loss(model, held_out, task))
                logger.info("fine_tune: step %d/%d held-out loss %.4f", step, steps, best.losses[-1])
                warm = step - self.patience * every >= self.warmup * steps
                if warm and best.converged(self.patience, self.tolerance):
                    logger.info("fine_tune: converged after %d of %d steps", step, steps)
                    break
        best.restore_()
        for module, mode in modes.items():
            module.training = mode

    def _steps(
        self, model: nn.Module, pinned: Pinned, task: Task, batches: Iterable[Batch], steps: int
    ) -> Iterator[int]:
        """Train, yielding the number of steps done after each; end early where the loss is not finite."""
        optimiser = self._optimiser(model)
        scheduler = LambdaLR(optimiser, self._factor(steps))
        progress = Progress(steps)
        passes = itertools.chain.from_iterable(itertools.repeat(batches, steps))
        for step, batch in enumerate(itertools.islice(passes, steps), start=1):
            model.train()
            loss = task.loss(model, batch)
            if not math.isfinite(loss.item()):
                logger.warning("fine_tune: loss is %s at step %d; keeping the best weights so far", loss.item(), step)
                return
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._shrink_(model)
            pinned.zero_gradients_()
            nn.utils.clip_grad_norm_(model.parameters(), self.clip)
            optimiser.step()
            scheduler.step()
            pinned.zero_()
            progress(step, loss.item())
            yield step

    @torch.no_grad()
    def _shrink_(self, model: nn.Module) -> None:
        """Add the gradient of the L1 norm of every matrix: its signs."""
        for parameter in model.parameters():
            if self.l1 and parameter.grad is not None and parameter.dim() >= 2:
                parameter.grad.add_(parameter.sign(), alpha=self.l1)

    def _optimiser(self, model: nn.Module) -> torch.optim.AdamW:
        trained = [p for p in model.parameters() if p.requires_grad]
        if not trained:
            raise SecateursError("fine_tune: no parameter of the model requires a gradient; set requires_grad on some")
        groups = [
            {"params": [p for p in trained if p.dim() >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
        ]
        fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in trained)
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=self.learning_rate, fused=fused)

    def _factor(self, steps: int) -> Callable[[int], float]:
        warm = round(self.warmup * steps)

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / (warm + 1)
            done = (step - warm) / max(1, steps - warm)
            return 1 - done if self.decay == "linear" else 0.5 * (1 + math.cos(math.pi * done))

        return factor


class Pinned:
    """The masked tensors of a model, parameters and buffers, and their entries that must stay zero."""

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
        """Look every masked tensor up by name; tied names share one tensor."""
        tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(
            model.named_buffers(remove_duplicate=False)
        )
        unknown = sorted(masks.keys() - tensors.keys())
        if unknown:
            raise SecateursError(
                f"the mask names '{unknown[0]}', which the model does not have; use the model it was made for"
            )
        self._dropped = [(tensors[name], ~mask.to(tensors[name].device)) for name, mask in masks.items()]

    @torch.no_grad()
    def zero_(self) -> None:
        """Set every dropped entry to zero."""
        for tensor, dropped in self._dropped:
            tensor.masked_fill_(dropped, 0)

    @torch.no_grad()
    def zero_gradients_(self) -> None:
        """Set the gradient of every dropped entry to zero: it must not count in the clipped norm, nor in momenta."""
        for tensor, dropped in self._dropped:
            if tensor.grad is not None:
                tensor.grad.masked_fill_(dropped, 0)


class Best:
    """The weights of the lowest loss offered, and all losses offered so far."""

    def __init__(self, model: nn.Module) -> None:
        """Start with the weights the model has now."""
        self._model = model
        self._state = self._copy()
        self.losses: list[float] = []

    def _copy(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self._model.state_dict().items() if isinstance(t, Tensor)}

    def offer(self, loss: float) -> None:
        """Keep the present weights if their loss is the lowest; a loss that is not finite never is."""
        loss = loss if math.isfinite(loss) else math.inf
        if self.losses and loss < min(self.losses):
            self._state = self._copy()
        self.losses.append(loss)

    def converged(self, patience: int, tolerance: float) -> bool:
        """Whether the last ``patience`` offers and the one before lie within ``tolerance`` of the lowest of them."""
        recent = self.losses[-patience - 1 :]
        lowest, highest = min(recent), max(recent)
        return len(recent) > patience and math.isfinite(highest) and highest - lowest <= tolerance * abs(lowest)

    @torch.no_grad()
    def restore_(self) -> None:
        """Put the best weights back, in place."""
        for name, tensor in self._model.state_dict().items():
            if name in self._state:
                tensor.copy_(self._state[name])


class Progress:
    """A line of progress at most once a second: step, running mean of the loss, seconds left."""

    def __init__(self, steps: int) -> None:
        """Start the clock."""
        self._steps, self._begin, self._last, self._mean = steps, time.monotonic(), 0.0, math.nan

    def __call__(self, step: int, loss: float) -> None:
        """Note one step and log if a second has passed since the last line."""
        self._mean = loss if step == 1 else 0.95 * self._mean + 0.05 * loss
        now = time.monotonic()
        if now - self._last < 1.0:
            return
        self._last, left = now, (now - self._begin) / step * (self._steps - step)
        logger.info("fine_tune: step %d/%d loss %.4f, %.0f s left", step, self._steps, self._mean, left)


@torch.no_grad()
def _mean_loss(model: nn.Module, batches: Iterable[Batch], task: Task) -> float:
    model.eval()
    losses = [task.loss(model, batch).item() for batch in batches]
    return sum(losses) / len(losses)
