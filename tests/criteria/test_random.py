from __future__ import annotations

import torch

from secateurs.criteria.random import Random
from secateurs.types import Rows


def test_same_seed_same_draw_other_seed_other_draw() -> None:
    rows = [Rows(torch.randn(50, 3))]
    assert torch.equal(Random(1)(rows), Random(1)(rows))
    assert not torch.equal(Random(1)(rows), Random(2)(rows))


def test_groups_of_equal_size_are_drawn_apart() -> None:
    first, second = Random()([Rows(torch.randn(12, 4))]), Random()([Rows(torch.randn(12, 4))])
    assert not torch.equal(first, second)


def test_uniform_and_blind_to_the_size_of_weights() -> None:
    weight = torch.linspace(0.1, 100, 20_000)[:, None]
    drawn = Random()([Rows(weight)])
    assert float(drawn.min()) > 0 and float(drawn.max()) <= 1
    assert abs(float(drawn.mean()) - 0.5) < 0.01
    assert abs(float(torch.corrcoef(torch.stack([drawn, weight[:, 0]]))[0, 1])) < 0.03


def test_what_is_gone_stays_gone() -> None:
    weight, bias = torch.ones(4, 2), torch.ones(4, 1)
    weight[1], weight[2] = 0, 0
    bias[1] = 0
    assert Random()([Rows(weight), Rows(bias)]).eq(0).tolist() == [False, True, False, False]


def test_weights_laid_out_anyhow_and_in_half_precision() -> None:
    weight = torch.randn(6, 4)
    assert torch.equal(Random()([Rows(weight)]), Random()([Rows(weight.t().contiguous().t())]))
    assert Random()([Rows(weight.bfloat16())]).shape == (6,)
