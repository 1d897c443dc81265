"""The dense model, where the user has only a pretrained one: a classifier for labels, or a language model adapted."""

from __future__ import annotations

from pathlib import Path

import torch

from secateurs.job.named_data import LANGUAGE, language_data, text_data
from secateurs.job.opening import TaskName
from secateurs.job.output import claimed
from secateurs.recoveries.fine_tune import FineTune
from secateurs.tasks.finetune import Finetuned, finetune
from secateurs.tasks.pretrained import load_classifier, load_language_model
from secateurs.tasks.tables import read_columns
from secateurs.tasks.text_classification import text_classification
from secateurs.types import SecateursError


def finetune_named(
    name: str,
    task: TaskName,
    output: str | Path,
    training: FineTune | None = None,
    seed: int = 0,
    device: str | None = None,
) -> Finetuned:
    """Give a pretrained model a head for the labels of the data, or keep its language model's; train it, and save it.

    Args:
        name: A transformers directory or hub name.
        task: ``text``, ``glue/<task>`` or ``language_modelling``.
        output: Must not exist yet.
        training: How; None: one epoch of ``FineTune`` with a learning rate of 1e-4.
        seed: Of the head's first weights and of the order of the data.
        device: Where to train, as torch calls it; None: a CUDA GPU where there is one, else the CPU.

    Raises:
        SecateursError: The output exists or another process is making it, no such model, task or device, or labels that
            are no classes.
    """
    with claimed(Path(output)):
        where = open_device(device)
        if task.name == LANGUAGE:
            from secateurs.tasks.language_modelling import language_modelling

            cut = language_data(task.options)
            model, tokenizer = load_language_model(name)
            return finetune(
                model.to(where),
                tokenizer,
                language_modelling(model, tokenizer, cut),
                output,
                recovery=training,
                seed=seed,
            )
        data = text_data(task.name, task.options)
        (column,) = read_columns(data.train, [data.label])
        n_labels, names = labels_of(column, f"{data.train}: {data.label}")
        torch.manual_seed(seed)
        model, tokenizer = load_classifier(name, n_labels, names)
        made = text_classification(model, tokenizer, data)
        return finetune(model.to(where), tokenizer, made, output, recovery=training, seed=seed)


def open_device(name: str | None) -> torch.device:
    """Find where to compute.

    Args:
        name: As torch calls it; None: a CUDA GPU where there is one, else the CPU.

    Raises:
        SecateursError: This machine has no such device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device).item()  # the meta device holds nothing
    except (RuntimeError, AssertionError) as error:
        raise SecateursError(f"no device '{name}' on this machine; give cpu, or leave --device out") from error
    return device


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
