from __future__ import annotations

import torch

from secateurs.choosers._best import best


def test_the_highest_of_every_block_and_of_equal_ones_the_first() -> None:
    worth = torch.tensor([1.0, 3.0, 3.0, 2.0, 0.0, -torch.inf])
    assert best(worth, 1, 3).tolist() == [False, True, False, True, False, False]
    assert best(worth, 2, 6).tolist() == [False, True, True, False, False, False]
