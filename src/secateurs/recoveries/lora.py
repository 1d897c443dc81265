"""Fine-tune low-rank additions to the layers, then add them to the weights (Hu et al. 2022, LoRA, arXiv:2106.09685).

    W' = W + alpha / rank * B A,    A (rank, inputs) drawn at random, B (outputs, rank) zero at first

Only A and B are trained: optimiser and gradients hold a few per cent of the network, which is how large pruned language
models are healed (Ma et al. 2023, LLM-Pruner; Kim et al. 2024, Shortened LLaMA). The work is peft's.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateurs.recoveries._layers import found
from secateurs.recoveries.fine_tune import FineTune, Pinned
from secateurs.types import SecateursError, Task


@dataclass(frozen=True)
class Lora(FineTune):
    """Train as ``fine_tune`` does, low-rank additions to every layer instead of its weights; nothing is left of them.

    Layers are the modules that multiply what they are given by a weight which requires a gradient and which they share
    with no other. Single weights that are masked are zero again once the additions are in.

    Args:
        rank: Of an addition, at least 1.
        alpha: Additions are scaled by ``alpha / rank``.
        dropout: Of what an addition is given, in [0, 1).
        learning_rate: The peak; higher than for whole weights.

    The other fields are those of ``fine_tune``.

    Raises:
        SecateursError: peft is not installed, a field is outside its range, the train split is empty, or there is no
            layer that it could be added to.
    """

    learning_rate: float = 2e-4
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check every field against its range."""
        super().__post_init__()
        ranges: dict[str, tuple[bool, str]] = {
            "rank": (self.rank >= 1, "at least 1"),
            "alpha": (self.alpha > 0, "above 0"),
            "dropout": (0 <= self.dropout < 1, "in [0, 1)"),
        }
        for name, (holds, allowed) in ranges.items():
            if not holds:
                raise SecateursError(f"lora: {name} must be {allowed}, got {getattr(self, name)}")

    def __call__(
        self, model: nn.Module, masks: Mapping[str, Tensor], task: Task, dense: nn.Module | None = None
    ) -> None:
        """Tune in place; the random state is the caller's (``torch.manual_seed``)."""
        try:
            from peft.tuners.lora import LoraConfig, LoraModel
        except ImportError as error:
            raise SecateursError("lora needs peft: pip install 'secateurs[lora]'") from error
        names = [re.escape(name) for name in _layers(model, task)]
        if not names:
            raise SecateursError("lora: the network has no layer that an addition could be trained for; use fine_tune")
        alpha: Any = self.alpha  # peft's annotation says int, and takes any number
        config: Any = LoraConfig(
            r=self.rank, lora_alpha=alpha, lora_dropout=self.dropout, target_modules="|".join(names)
        )
        with _as_it_was(model):
            try:
                tuner: Any = LoraModel(model, config, "healing")
            except ValueError as error:
                raise SecateursError(f"lora: peft cannot add to a layer of this network: {error}") from error
            super().__call__(model, {}, task)
            tuner.merge_and_unload()
        Pinned(model, masks).zero_()


def _layers(model: nn.Module, task: Task) -> list[str]:
    batch = next(itertools.islice(task.splits["train"], 1), None)
    if batch is None:
        raise SecateursError(f"lora: the train split of task '{task.name}' is empty; give it a batch at least")
    with _as_it_was(model), torch.no_grad():
        model.eval()
        layers = found(model, model, task, batch)
    return [layer.name for layer in layers if layer.module.get_parameter("weight").requires_grad]


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Modes, what requires a gradient, and plain attributes of the network come back."""
    modes = {module: module.training for module in model.modules()}
    asked = {parameter: parameter.requires_grad for parameter in model.parameters()}
    held = set(vars(model))
    try:
        yield
    finally:
        for parameter, wanted in asked.items():
            parameter.requires_grad_(wanted)
        for module, mode in modes.items():
            module.training = mode
        for name in vars(model).keys() - held:
            delattr(model, name)
