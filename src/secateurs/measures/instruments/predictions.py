"""What a model answers on a split, checked: shapes that fit, finite outputs, labels within range."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from secateurs.measures.instruments.forward import inference
from secateurs.measures.instruments.intervals import lower_limit, pairs_interval
from secateurs.measures.instruments.progress import Pulse
from secateurs.types import Batch, Reading, SecateursError, Task

log = logging.getLogger("secateurs.measures")


@dataclass(frozen=True, slots=True)
class Labels:
    """Predicted and true labels of a split, each int64 ``(n,)`` on the CPU."""

    predicted: Tensor
    true: Tensor
    n_classes: int


def batches(task: Task, split: str) -> Iterator[tuple[str, Batch]]:
    """The batches of a split, each with the words that name it in an error.

    Raises:
        SecateursError: The task has no such split, or the split has no batches.
    """
    if split not in task.splits:
        raise SecateursError(f"task {task.name!r} has no split {split!r}; it has: {', '.join(task.splits) or 'none'}")
    pulse, seen = Pulse(log), 0
    for seen, batch in enumerate(task.splits[split], start=1):
        pulse.say("%s: batch %d of split %s", task.name, seen, split)
        yield f"batch {seen} of split {split!r} of task {task.name!r}", batch
    if not seen:
        raise SecateursError(
            f"split {split!r} of task {task.name!r} gave no batches: it must hold data and be iterable more than once"
        )


def answers(model: nn.Module, task: Task, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Outputs ``(n, n_classes)`` and targets ``(n,)`` batch by batch; to be used inside ``inference``.

    Leading dimensions shared by both are flattened.

    Raises:
        SecateursError: Empty split, shapes that do not fit, targets that are no integers, outputs that are not finite.
    """
    for where, batch in batches(task, split):
        given: object = task.predict(model, batch)
        match given:
            case (Tensor() as outputs, Tensor() as targets):
                pass
            case _:
                raise SecateursError(
                    f"predict gave {type(given).__name__} on {where}: give a pair of tensors, (outputs, targets)"
                )
        if outputs.dim() < 2 or outputs.shape[:-1] != targets.shape or not outputs.shape[-1]:
            raise SecateursError(
                f"predict gave outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} on {where}: "
                "give class scores (n, n_classes) and labels (n,)"
            )
        if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
            raise SecateursError(f"predict gave targets of type {targets.dtype} on {where}: give integer labels")
        _check_finite(outputs, where)
        yield outputs.flatten(0, -2), targets.flatten().long()


def _check_finite(outputs: Tensor, where: str) -> None:
    bad = int((~torch.isfinite(outputs)).sum())
    if bad:
        nan = int(outputs.isnan().sum())
        raise SecateursError(
            f"the model's outputs on {where} are not finite: {nan} NaN and {bad - nan} infinite of {outputs.numel()}; "
            "check its weights and the data"
        )


def check_labels(targets: Tensor, n_classes: int, what: str) -> None:
    """Raise SecateursError, naming the label, where one lies outside ``[0, n_classes)``."""
    outside = targets[(targets < 0) | (targets >= n_classes)]
    if outside.numel():
        raise SecateursError(
            f"label {int(outside[0])} of {what} is outside the model's {n_classes} classes, 0 to {n_classes - 1}: "
            "renumber the labels or give the model more classes"
        )


def labels(model: nn.Module, task: Task, split: str) -> Labels:
    """Run the split and take the best class of each example.

    Raises:
        SecateursError: What ``answers`` raises, and labels outside the model's classes.
    """
    predicted, true, n_classes = [], [], 0
    with inference(model):
        for outputs, targets in answers(model, task, split):
            n_classes = outputs.shape[1]
            check_labels(targets, n_classes, f"split {split!r} of task {task.name!r}")
            predicted.append(outputs.argmax(1).cpu())
            true.append(targets.cpu())
    if not sum(map(len, true)):
        raise SecateursError(f"split {split!r} of task {task.name!r} holds no examples")
    return Labels(torch.cat(predicted), torch.cat(true), n_classes)


Score = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], float]
"""True labels, predicted labels and how often each pair of them was seen -> score."""


@runtime_checkable
class OfLabels(Protocol):
    """A measure that is a score of predicted and true labels: two networks can be compared example by example."""

    higher_is_better: ClassVar[bool]

    def score(self, true: NDArray[np.int64], predicted: NDArray[np.int64], counts: NDArray[np.int64]) -> float: ...
    def of(self, found: Labels) -> Reading: ...


def scored(measure: str, found: Labels, score: Score) -> Reading:
    """A reading of a score of labels, with its bootstrap interval over examples."""
    pairs = torch.stack((found.true, found.predicted), 1).numpy()
    cells, counts = np.unique(pairs, axis=0, return_counts=True)
    true, predicted = cells[:, 0], cells[:, 1]
    return Reading(
        measure=measure,
        value=score(true, predicted, counts),
        unit="1",
        how="measured",
        spread=pairs_interval(lambda weight: score(true, predicted, weight), counts),
        source="scikit-learn",
        samples=len(found.true),
    )


def surely_lost(quality: OfLabels, dense: Labels, pruned: Labels, confidence: float) -> float:
    """How much of a score is lost at most, with this confidence: a paired bootstrap over examples (Efron 1979).

    Both networks are drawn the same examples, so what both get right, or both wrong, adds no noise.

    Args:
        quality: The score.
        dense: Labels of the network as given.
        pruned: Of the pruned network, on the same examples in the same order.
        confidence: One-sided, in (0, 1).

    Raises:
        SecateursError: The examples are not the same.
    """
    if not torch.equal(dense.true, pruned.true):
        raise SecateursError("the split gave other examples, or another order, the second time: shuffle train alone")
    cells, counts = np.unique(
        torch.stack((dense.true, dense.predicted, pruned.predicted), 1).numpy(), axis=0, return_counts=True
    )
    true, before, after = cells.T
    return -lower_limit(
        lambda weight: quality.score(true, after, weight) - quality.score(true, before, weight), counts, confidence
    )
