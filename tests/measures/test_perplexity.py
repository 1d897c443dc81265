from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from secateurs.measures.perplexity import ROWS, Perplexity
from secateurs.types import SecateursError


def test_knowing_nothing_of_n_words_is_n(answering):
    reading = Perplexity()(nn.Identity(), answering([(torch.zeros(2, 5, 17), torch.randint(0, 17, (2, 5)))]))
    assert reading.value == pytest.approx(17.0)
    assert reading.samples == 10


def test_is_over_tokens_and_skips_those_that_do_not_count(answering):
    p = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]]).log()
    task = answering([(p[:1], torch.tensor([0])), (p[1:], torch.tensor([1, -100]))])
    reading = Perplexity()(nn.Identity(), task)
    assert reading.samples == 2
    assert reading.value == pytest.approx(math.exp(-(math.log(0.5) + math.log(0.75)) / 2))


def test_many_tokens_are_taken_in_stretches(answering):
    logits, targets = torch.randn(3 * ROWS + 5, 7), torch.randint(0, 7, (3 * ROWS + 5,))
    targets[::3] = -100
    wanted = torch.nn.functional.cross_entropy(logits.double(), targets).exp().item()
    task = replace(answering([(logits, targets)]), manifest={"protocol": "as it comes"})
    reading = Perplexity()(nn.Identity(), task)
    assert reading.value == pytest.approx(wanted, rel=1e-6)
    assert reading.note == "as it comes"


def test_half_precision_is_summed_in_full(answering):
    logits = torch.randn(4000, 50)
    targets = torch.randint(0, 50, (4000,))
    exact = Perplexity()(nn.Identity(), answering([(logits, targets)])).value
    assert Perplexity()(nn.Identity(), answering([(logits.bfloat16(), targets)])).value == pytest.approx(
        exact, rel=1e-2
    )


def test_hopeless_is_infinite_not_an_error(answering):
    assert Perplexity()(nn.Identity(), answering([(torch.tensor([[0.0, 1e4]]), torch.tensor([0]))])).value == math.inf


def test_refuses_words_it_does_not_know(answering):
    with pytest.raises(SecateursError, match=r"label 7 .* 5 classes"):
        Perplexity()(nn.Identity(), answering([(torch.zeros(1, 5), torch.tensor([7]))]))
    with pytest.raises(SecateursError, match="no token that counts"):
        Perplexity()(nn.Identity(), answering([(torch.zeros(1, 5), torch.tensor([-100]))]))
