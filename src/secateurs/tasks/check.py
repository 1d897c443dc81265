"""Look at a model and a task before any work is done: what cannot be used is said at once, in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateurs.measures.instruments.forward import call, device_of, inference, prepared
from secateurs.measures.instruments.predictions import labels
from secateurs.types import Batch, SecateursError, Task


def check_task(model: nn.Module, task: Task) -> None:
    """Check the weights, the splits, a forward pass, and the first batch of every split; nothing is changed.

    Args:
        model: Any network.
        task: For it.

    Raises:
        SecateursError: A weight is NaN or infinite; a split is missing or empty; the forward pass fails on the example
            inputs; a label is outside the model's classes; the loss is no finite scalar or has no gradient.
    """
    _check_weights(model)
    with inference(model):
        firsts = {split: _first(task, split) for split in ("train", "select", "final")}
        inputs = prepared(task.example_inputs, device_of(model))
        _tried("the forward pass on the example inputs", partial(call, model, inputs))
        for split, batch in firsts.items():
            alone = replace(task, splits={split: [batch]})
            _tried(f"predict on the first batch of {split}", partial(labels, model, alone, split))
        _check_loss(model, task, firsts["train"])


def _check_weights(model: nn.Module) -> None:
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            n_bad = int((~torch.isfinite(tensor)).sum())
            raise SecateursError(
                f"'{name}' holds {n_bad} values that are NaN or infinite; give a model of finite weights"
            )


def _first(task: Task, split: str) -> Batch:
    if split not in task.splits:
        raise SecateursError(f"task '{task.name}' has no split '{split}'; it needs train, select and final")
    for batch in task.splits[split]:
        return batch
    raise SecateursError(f"the {split} split of task '{task.name}' is empty; give it at least one batch")


def _tried(what: str, attempt: Callable[[], Any]) -> Any:
    """The result, or one line on why there is none."""
    try:
        return attempt()
    except SecateursError:
        raise
    except Exception as error:  # whatever the user's own code raises
        first = (str(error).strip().splitlines() or [""])[0]
        raise SecateursError(f"{what} fails: {type(error).__name__}: {first}") from error


def _check_loss(model: nn.Module, task: Task, batch: Batch) -> None:
    with torch.enable_grad():
        loss = _tried("the loss on the first batch of train", partial(task.loss, model, batch))
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise SecateursError(f"the loss of task '{task.name}' must return one number as a tensor")
    if not bool(torch.isfinite(loss)):
        raise SecateursError(f"the loss on the first batch of train is {loss.item()}; check the data and the model")
    if any(p.requires_grad for p in model.parameters()) and not loss.requires_grad:
        raise SecateursError(f"the loss of task '{task.name}' has no gradient; compute it without no_grad or detach")
