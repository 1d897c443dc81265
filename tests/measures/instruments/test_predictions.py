from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from secateurs.measures.instruments.forward import inference
from secateurs.measures.instruments.predictions import Labels, answers, batches, check_labels, labels, scored
from secateurs.types import SecateursError


def test_labels_are_the_best_classes_in_order(answering, two_batches):
    found = labels(nn.Identity(), answering(two_batches), "final")
    assert found.predicted.tolist() == [0, 1, 2, 2, 0, 1, 1]
    assert found.true.tolist() == [0, 1, 1, 0, 0, 2, 1]
    assert found.n_classes == 3


def test_tokens_are_flattened(answering):
    task = answering([(torch.zeros(2, 5, 7), torch.zeros(2, 5, dtype=torch.int32))])
    with inference(nn.Identity()):
        [(outputs, targets)] = answers(nn.Identity(), task, "final")
    assert (outputs.shape, targets.shape, targets.dtype) == ((10, 7), (10,), torch.int64)


def test_batches_are_named_for_errors(answering, two_batches):
    names = [where for where, _ in batches(answering(two_batches), "final")]
    assert names == [f"batch {i} of split 'final' of task 'known'" for i in (1, 2)]


def test_bad_batch_is_named(answering, two_batches):
    task = answering([*two_batches, (torch.full((1, 3), float("nan")), torch.tensor([0]))])
    with pytest.raises(SecateursError, match="batch 3 of split 'final'"):
        labels(nn.Identity(), task, "final")


def test_outputs_alone_are_no_pair(answering, two_batches):
    task = answering(two_batches)
    alone = replace(task, predict=lambda network, batch: task.predict(network, batch)[0])
    with pytest.raises(
        SecateursError, match=r"predict gave Tensor on .*: give a pair of tensors, \(outputs, targets\)"
    ):
        next(answers(nn.Identity(), alone, "final"))


def test_label_error_gives_the_range():
    check_labels(torch.tensor([0, 4]), 5, "here")
    with pytest.raises(SecateursError, match="label 5 of here is outside the model's 5 classes, 0 to 4"):
        check_labels(torch.tensor([5]), 5, "here")


def test_score_sees_each_distinct_pair_once():
    found = Labels(torch.tensor([0, 0, 1]), torch.tensor([0, 0, 0]), 2)
    seen = []

    def score(true, predicted, counts):
        seen.append((true.tolist(), predicted.tolist(), int(counts.sum())))
        return 0.5

    reading = scored("made_up", found, score)
    assert set(map(str, seen)) == {"([0, 0], [0, 1], 3)"}
    assert (reading.value, reading.samples, reading.spread) == (0.5, 3, (0.5, 0.5))


def test_long_work_shows_signs_of_life(answering, two_batches, caplog, monkeypatch):
    ticks = iter(range(0, 100, 2))
    monkeypatch.setattr("time.monotonic", lambda: float(next(ticks)))
    with caplog.at_level(logging.INFO, "secateurs.measures"):
        list(batches(answering(two_batches), "final"))
    assert caplog.messages == ["known: batch 1 of split final", "known: batch 2 of split final"]
