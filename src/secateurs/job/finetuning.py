"""The dense model, where the user has only a pretrained one: a classifier for the labels of a task of texts."""

from __future__ import annotations

from pathlib import Path

from secateurs.job.opening import TaskName, text_data
from secateurs.recoveries.fine_tune import FineTune
from secateurs.tasks.finetune import Finetuned, finetune
from secateurs.tasks.pretrained import load_classifier
from secateurs.tasks.tables import read_columns
from secateurs.tasks.text_classification import text_classification
from secateurs.types import SecateursError


def finetune_named(
    name: str, task: TaskName, output: str | Path, training: FineTune | None = None, seed: int = 0
) -> Finetuned:
    """Give a pretrained model a head for the labels of the data, train it, and save it.

    Args:
        name: A transformers directory or hub name.
        task: ``text`` or ``glue/<task>``.
        output: Must not exist yet.
        training: How; None: one epoch of ``FineTune`` with a learning rate of 1e-4.
        seed: Of the head's first weights and of the order of the data.

    Raises:
        SecateursError: The output exists, no such model or task, or labels that are no classes.
    """
    import torch

    if Path(output).exists():
        raise SecateursError(f"the output directory {output} exists; name another or remove it")
    data = text_data(task)
    (column,) = read_columns(data.train, [data.label])
    n_labels, names = labels_of(column, f"{data.train}: {data.label}")
    torch.manual_seed(seed)
    model, tokenizer = load_classifier(name, n_labels, names)
    made = text_classification(model, tokenizer, data)
    return finetune(model, tokenizer, made, output, recovery=training, seed=seed)


def labels_of(column: list[object], where: str) -> tuple[int, list[str] | None]:
    """How many classes a column of labels has, and their names where they are words.

    Args:
        column: Integers from zero, or strings.
        where: The column, for the error.

    Raises:
        SecateursError: Neither, or fewer than two classes.
    """
    found = set(column)
    if all(isinstance(label, str) for label in found):
        names = sorted(str(label) for label in found)
        n_labels = len(names)
    elif all(isinstance(label, int) and label >= 0 for label in found):
        names, n_labels = [], max(int(str(label)) for label in found) + 1
    else:
        odd = next(label for label in found if not isinstance(label, int) or label < 0)
        raise SecateursError(f"{where} holds {odd!r}; labels must be words, or integers from 0")
    if n_labels < 2:
        raise SecateursError(f"{where} holds one class only; a classifier needs two")
    return n_labels, names or None
