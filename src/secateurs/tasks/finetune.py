"""Make the dense model: train a pretrained network on a task and save it where it can be loaded again."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from secateurs.recoveries.fine_tune import FineTune
from secateurs.tasks.pretrained import quiet
from secateurs.types import Measure, Reading, Recovery, SecateursError, Task

logger = logging.getLogger("secateurs.tasks")


@dataclass(frozen=True)
class Finetuned:
    """What came out.

    Args:
        directory: Holds the model and its tokenizer, as ``save_pretrained`` writes them.
        readings: Split (``select``, ``final``) -> the task's quality there.
        seconds: Wall time of training.
    """

    directory: Path
    readings: Mapping[str, Reading]
    seconds: float


def finetune(
    model: nn.Module,
    tokenizer: Any,
    task: Task,
    directory: str | Path,
    *,
    recovery: Recovery | None = None,
    seed: int = 0,
) -> Finetuned:
    """Train on the task's train split, evaluate, save.

    Args:
        model: A transformers model; changed in place.
        tokenizer: Saved beside it; None where there is none.
        task: What to learn.
        directory: Must not exist yet; it appears only when everything in it is written.
        recovery: How to train; by default one epoch of :class:`FineTune` with a learning rate of 1e-4.
        seed: Of torch's random state.

    Raises:
        SecateursError: The directory exists, or cannot be written.
    """
    target = Path(directory)
    if target.exists():
        raise SecateursError(f"the output directory {target} exists; name another or remove it")
    aside = _aside(target)
    try:
        torch.manual_seed(seed)
        begin = time.monotonic()
        (recovery or FineTune(epochs=1.0, learning_rate=1e-4))(model, {}, task)
        seconds = time.monotonic() - begin
        readings = {split: _quality(task, split)(model, task) for split in ("select", "final")}
        _write(model, tokenizer, aside)
        aside.rename(target)
    except OSError as error:
        raise SecateursError(f"cannot write {target}: {error.strerror or error}; nothing was saved") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Finetuned(target, readings, seconds)


def _aside(target: Path) -> Path:
    """An empty directory beside the target, so that the last step is one rename."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        raise SecateursError(f"cannot write {target}: {error.strerror or error}") from error
    return aside


def _quality(task: Task, split: str) -> Measure:
    quality: Any = task.quality
    return cast(Measure, replace(quality, split=split))


def _write(model: Any, tokenizer: Any, directory: Path) -> None:
    logger.info("finetune: saving")
    with quiet():
        model.save_pretrained(directory)
        if tokenizer is not None:
            tokenizer.save_pretrained(directory)
