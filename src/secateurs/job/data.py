"""Whether the user's data can be used: a look before the work, and a thorough one after it broke down."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator

from torch import nn

from secateurs.measures.instruments.forward import inference, rows_in
from secateurs.types import Batch, SecateursError, Task

logger = logging.getLogger("secateurs.job")

SPLITS = ("train", "select", "final")


def check(task: Task) -> None:
    """Look whether every split is there and holds something.

    Args:
        task: Of the user.

    Raises:
        SecateursError: A split is missing, empty, or cannot be read, or its first batch holds no examples.
    """
    for split in SPLITS:
        if split not in task.splits:
            raise SecateursError(f"task '{task.name}' has no split '{split}'; it needs {', '.join(SPLITS)}")
        first = next(_batches(task, split), None)
        if first is None:
            raise SecateursError(f"split '{split}' of task '{task.name}' is empty; give it data")
        if rows_in(first) == 0:
            raise SecateursError(_no_examples(task, split, 0))


def diagnose(model: nn.Module, task: Task) -> None:
    """Take the loss of every batch, to find the one that cannot be used.

    Args:
        model: The dense network; left alone.
        task: Of the user.

    Raises:
        SecateursError: The loss of a batch, which is named, cannot be taken or is not a finite number.
    """
    logger.info("looking for what is wrong in the data")
    for split in SPLITS:
        for number, batch in enumerate(_batches(task, split)):
            if rows_in(batch) == 0:
                raise SecateursError(_no_examples(task, split, number))
            where = f"the loss of task '{task.name}' on batch {number} of split '{split}'"
            try:
                with inference(model):
                    value = float(task.loss(model, batch))
            except Exception as error:
                raise SecateursError(f"{where} cannot be taken: {type(error).__name__}: {error}") from error
            if not math.isfinite(value):
                raise SecateursError(f"{where} is {value}")


def _no_examples(task: Task, split: str, number: int) -> str:
    return f"batch {number + 1} of split '{split}' of task '{task.name}' holds no examples; leave it out"


def _batches(task: Task, split: str) -> Iterator[Batch]:
    try:
        yield from task.splits[split]
    except (SecateursError, OSError):
        raise
    except Exception as error:
        what = f"split '{split}' of task '{task.name}' cannot be read"
        raise SecateursError(f"{what}: {type(error).__name__}: {error}") from error
