"""Perplexity: exp of the mean negative log likelihood per token, exp(-1/N sum_i log p(t_i | t_<i))."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateurs.measures.instruments.forward import inference
from secateurs.measures.instruments.predictions import answers, check_labels
from secateurs.types import Reading, SecateursError, Task

IGNORED = -100
"""The target of a token that does not count, as in ``torch.nn.functional.cross_entropy``."""

ROWS = 256
"""Tokens whose likelihoods are taken at once: the logits of a large vocabulary are not held a second time."""


@dataclass(frozen=True)
class Perplexity:
    """Perplexity over the tokens of a split; targets of -100 do not count.

    ``task.predict`` gives logits and the tokens they predict, already shifted against each other. The note is what the
    task's manifest says under ``protocol``: figures of different windows do not compare.

    Args:
        split: Which split of the task to read.

    Raises:
        SecateursError: On the call: no such split, no tokens that count, tokens outside the vocabulary, outputs not
            finite.
    """

    split: str = "final"
    higher_is_better: ClassVar[bool] = False

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        total, tokens = 0.0, 0
        with inference(model):
            for outputs, targets in answers(model, task, self.split):
                kept = targets != IGNORED
                check_labels(targets[kept], outputs.shape[1], f"split {self.split!r} of task {task.name!r}")
                total += _negative_log_likelihood(outputs, targets)
                tokens += int(kept.sum())
        if not tokens:
            raise SecateursError(f"split {self.split!r} of task {task.name!r} holds no token that counts")
        mean = total / tokens
        # exp overflows a float above about 709 nats.
        value = math.exp(mean) if mean < 700 else math.inf
        return Reading("perplexity", value, "1", "measured", samples=tokens, note=task.manifest.get("protocol"))


def _negative_log_likelihood(logits: Tensor, targets: Tensor) -> float:
    """Summed over the tokens that count, in double precision from one stretch of tokens to the next."""
    stretches = zip(torch.split(logits, ROWS), torch.split(targets, ROWS), strict=True)
    return sum(
        F.cross_entropy(some.float(), true, ignore_index=IGNORED, reduction="sum").item() for some, true in stretches
    )
