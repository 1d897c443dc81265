"""Perplexity: exp of the mean negative log likelihood per token, exp(-1/N sum_i log p(t_i | t_<i))."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import nn

from secateurs.measures.instruments.forward import inference
from secateurs.measures.instruments.predictions import answers, check_labels
from secateurs.types import Reading, SecateursError, Task

IGNORED = -100
"""The target of a token that does not count, as in ``torch.nn.functional.cross_entropy``."""


@dataclass(frozen=True)
class Perplexity:
    """Perplexity over the tokens of a split; targets of -100 do not count.

    ``task.predict`` gives logits and the tokens they predict, already shifted against each other.

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
                total += F.cross_entropy(outputs[kept].float(), targets[kept], reduction="sum").double().item()
                tokens += int(kept.sum())
        if not tokens:
            raise SecateursError(f"split {self.split!r} of task {task.name!r} holds no token that counts")
        mean = total / tokens
        # exp overflows a float above about 709 nats.
        value = math.exp(mean) if mean < 700 else math.inf
        return Reading("perplexity", value, "1", "measured", samples=tokens)
