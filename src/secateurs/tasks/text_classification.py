"""Classify one text or a pair: data from files or GLUE, tokenised once, batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from secateurs.tasks.length_buckets import LengthBuckets
from secateurs.tasks.pretrained import positions
from secateurs.tasks.splits import carve, stratified
from secateurs.tasks.tables import class_indices, describe, read_columns
from secateurs.types import Batch, Measure, SecateursError, Task


@dataclass(frozen=True)
class TextData:
    """Where the texts and labels are, and who sees which.

    Args:
        train: File (parquet, csv, tsv, json, jsonl) or ``glue/<name>:<split>``; heals and calibrates.
        evaluation: The same for the data that decides and reports.
        text: Column of the text, or of the two texts of a pair.
        label: Column of the class: an integer, or a string that the model's config maps in ``label2id``.
        metric: ``accuracy``, ``f1`` or ``matthews``.
        select_from: ``evaluation`` halves the evaluation data into ``select`` and ``final``, stratified; ``train``
            carves ``select`` off the training data by the hash of its content, and ``final`` is all evaluation data.
        select_size: Examples carved off when ``select_from`` is ``train``.
        max_length: Tokens kept of one example.
        batch_size: Examples of a batch.
        examples: Examples in ``example_inputs``.
        seed: Of the halving or the carve.
    """

    train: str
    evaluation: str
    text: tuple[str, ...] = ("sentence",)
    label: str = "label"
    metric: str = "accuracy"
    select_from: Literal["evaluation", "train"] = "evaluation"
    select_size: int = 2000
    max_length: int = 128
    batch_size: int = 32
    examples: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field against its range."""
        if self.metric not in _metrics():
            raise SecateursError(
                f"no metric '{self.metric}' for text classification; use one of: {', '.join(_metrics())}"
            )
        if self.select_from not in ("evaluation", "train"):
            raise SecateursError(f"select_from must be 'evaluation' or 'train', got '{self.select_from}'")
        if len(self.text) not in (1, 2):
            raise SecateursError(f"text must name one or two columns, got {len(self.text)}")
        for name in ("select_size", "max_length", "batch_size", "examples"):
            if getattr(self, name) < 1:
                raise SecateursError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class _Table:
    """Tokenised examples and their labels."""

    source: str
    texts: list[str]
    encoded: list[dict[str, list[int]]]
    labels: list[int]

    def lengths(self) -> list[int]:
        return [len(e["input_ids"]) for e in self.encoded]

    def take(self, positions: Sequence[int]) -> _Table:
        return _Table(
            self.source,
            [self.texts[i] for i in positions],
            [self.encoded[i] for i in positions],
            [self.labels[i] for i in positions],
        )


def glue(name: str, **options: Any) -> TextData:
    """The data of a GLUE task with its column names and its metric.

    Args:
        name: ``glue/sst2``, ``glue/cola``, ...
        **options: Fields of :class:`TextData` to set; ``train`` and ``evaluation`` given as files replace the hub.

    Raises:
        SecateursError: Not a GLUE classification task.
    """
    known = _glue_columns()
    short = name.removeprefix("glue/")
    if short not in known:
        raise SecateursError(f"no GLUE task '{name}'; use one of: {', '.join(f'glue/{k}' for k in known)}")
    given = {key: value for key, value in options.items() if value is not None}
    defaults = {
        "train": f"glue/{short}:train",
        "evaluation": f"glue/{short}:validation",
        "text": known[short],
        "metric": "matthews" if short == "cola" else "accuracy",
    }
    return TextData(**(defaults | given))


def text_classification(model: nn.Module, tokenizer: Any, data: TextData) -> Task:
    """A task for a transformers sequence classifier.

    Args:
        model: Its config gives the number of classes and the names of the labels.
        tokenizer: The model's own.
        data: Where the texts are.

    Raises:
        SecateursError: The model has no classes, a file or column is missing, or a label is outside the model's range.
    """
    config = getattr(model, "config", None)
    if not hasattr(config, "num_labels"):
        raise SecateursError(f"{type(model).__name__} is no transformers classifier: it has no config.num_labels")
    train, evaluation = (_table(source, config, tokenizer, data) for source in (data.train, data.evaluation))
    parts = _split(train, evaluation, data)
    collate = _Collate(tokenizer)
    middle = sorted(range(len(parts["final"].labels)), key=parts["final"].lengths().__getitem__)
    begin = max(0, (len(middle) - data.examples) // 2)
    example = collate([(parts["final"].encoded[i], 0) for i in middle[begin : begin + data.examples]])
    return Task(
        name=f"text classification, {data.evaluation}",
        example_inputs=example["inputs"],
        splits={name: _loader(part, collate, data, shuffle=name == "train") for name, part in parts.items()},
        loss=loss,
        predict=predict,
        quality=_metrics()[data.metric](),
        manifest=_manifest(data, parts),
    )


def predict(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Class scores ``(n, n_classes)`` and labels ``(n,)``, on the model's device."""
    device = next(model.parameters()).device
    inputs = {name: tensor.to(device) for name, tensor in batch["inputs"].items()}
    return model(**inputs).logits, batch["labels"].to(device)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of a batch."""
    return F.cross_entropy(*predict(model, batch))


@dataclass(frozen=True)
class _Collate:
    """Pads a batch to its longest example."""

    tokenizer: Any

    def __call__(self, examples: Sequence[tuple[dict[str, list[int]], int]]) -> dict[str, Any]:
        from transformers import DataCollatorWithPadding

        inputs = DataCollatorWithPadding(self.tokenizer)([encoded for encoded, _ in examples])
        return {"inputs": dict(inputs), "labels": torch.tensor([label for _, label in examples])}


def _table(source: str, config: Any, tokenizer: Any, data: TextData) -> _Table:
    *texts, labels = read_columns(source, [*data.text, data.label])
    longest = min(data.max_length, positions(config) or data.max_length)
    strings = [[str(t) for t in column] for column in texts]
    encoded = tokenizer(*strings, truncation=True, max_length=longest)
    rows = [{key: encoded[key][i] for key in encoded} for i in range(len(labels))]
    joined = ["\x1f".join(parts) for parts in zip(*strings, strict=True)]
    return _Table(source, joined, rows, _classes(source, labels, config, data.label))


def _classes(source: str, labels: Sequence[Any], config: Any, column: str) -> list[int]:
    """Labels as class indices of the model."""
    by_name = {str(k): int(v) for k, v in (getattr(config, "label2id", None) or {}).items()}
    numbers = class_indices(source, column, labels, by_name)
    return [_class(label, config.num_labels, f"{source} row {i + 1}: {column}") for i, label in enumerate(numbers)]


def _class(label: Any, n_classes: int, where: str) -> int:
    if isinstance(label, float) and not label.is_integer():
        raise SecateursError(f"{where} {label} is no class; labels must be integers from 0 to {n_classes - 1}")
    if not 0 <= int(label) < n_classes:
        raise SecateursError(f"{where} {int(label)} is outside the model's {n_classes} classes (0 to {n_classes - 1})")
    return int(label)


def _split(train: _Table, evaluation: _Table, data: TextData) -> dict[str, _Table]:
    """The three splits."""
    if data.select_from == "train":
        rest, carved = carve(train.texts, data.select_size, data.seed)
        if not rest:
            raise SecateursError(f"select_size {data.select_size} takes all of {data.train}; make it smaller")
        return {"train": train.take(rest), "select": train.take(carved), "final": evaluation}
    n = len(evaluation.labels)
    if n < 2:
        raise SecateursError(
            f"{data.evaluation} has one row: it cannot be halved into select and final; give more data"
        )
    select, final = stratified(evaluation.labels, [n // 2, n - n // 2], data.seed)
    return {"train": train, "select": evaluation.take(select), "final": evaluation.take(final)}


def _loader(part: _Table, collate: Callable[..., Any], data: TextData, *, shuffle: bool) -> DataLoader[Any]:
    examples: Any = list(zip(part.encoded, part.labels, strict=True))
    if shuffle:
        return DataLoader(examples, batch_sampler=LengthBuckets(part.lengths(), data.batch_size), collate_fn=collate)
    by_length = sorted(range(len(examples)), key=part.lengths().__getitem__)
    return DataLoader([examples[i] for i in by_length], batch_size=data.batch_size, collate_fn=collate)  # type: ignore[arg-type]


def _manifest(data: TextData, parts: Mapping[str, _Table]) -> dict[str, Any]:
    return {
        "train": describe(data.train),
        "evaluation": describe(data.evaluation),
        "text": list(data.text),
        "label": data.label,
        "metric": data.metric,
        "select_from": data.select_from,
        "max_length": data.max_length,
        "seed": data.seed,
        "examples": {name: len(part.labels) for name, part in parts.items()},
    }


def _glue_columns() -> dict[str, tuple[str, ...]]:
    return {
        "sst2": ("sentence",),
        "cola": ("sentence",),
        "mrpc": ("sentence1", "sentence2"),
        "qqp": ("question1", "question2"),
        "qnli": ("question", "sentence"),
        "rte": ("sentence1", "sentence2"),
    }


def _metrics() -> dict[str, Callable[[], Measure]]:
    from secateurs.measures.accuracy import Accuracy
    from secateurs.measures.f1 import F1
    from secateurs.measures.matthews import Matthews

    return {"accuracy": Accuracy, "f1": F1, "matthews": Matthews}
