"""A seeded stretch repeats itself and leaves no trace."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from secateurs.search.seeded import seeded


def draw() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()


def test_the_same_seed_draws_the_same() -> None:
    with seeded(5):
        first = draw()
    draw()
    with seeded(5):
        assert draw() == first
    with seeded(6):
        assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_the_state_outside_is_put_back_even_after_an_error() -> None:
    random.seed(1)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    with pytest.raises(ValueError), seeded(3):
        draw()
        raise ValueError
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())
