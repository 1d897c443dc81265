from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from secateurs.measures.loss import Loss
from secateurs.types import SecateursError


def test_is_the_mean_over_examples_not_over_batches(answering, two_batches):
    reading = Loss()(nn.Identity(), answering(two_batches))
    outputs, targets = (torch.cat(parts) for parts in zip(*two_batches, strict=True))
    assert reading.value == pytest.approx(F.cross_entropy(outputs, targets).item(), rel=1e-6)
    assert reading.samples == 7


def test_weighs_by_examples_in_mappings_too(answering):
    batches = [{"meta": {"name": "a"}, "x": torch.ones(3, 2)}, {"meta": {"name": "b"}, "x": torch.zeros(1, 2)}]
    task = replace(answering([]), splits={"final": batches}, loss=lambda model, batch: model(batch["x"]).mean())
    assert Loss()(nn.Identity(), task).value == pytest.approx(0.75)


def test_refuses_what_is_no_number(answering, two_batches):
    task = answering(two_batches)
    with pytest.raises(SecateursError, match=r"batch 1 of split 'final' of task 'known' is nan"):
        Loss()(nn.Identity(), replace(task, loss=lambda model, batch: torch.tensor(float("nan"))))
    with pytest.raises(SecateursError, match=r"loss gave \(4,\)"):
        Loss()(nn.Identity(), replace(task, loss=lambda model, batch: batch[1].float()))
    with pytest.raises(SecateursError, match="gave no batches"):
        Loss(split="train")(nn.Identity(), task)
