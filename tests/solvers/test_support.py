from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateurs.solvers._support import best, support

LEVELS = st.lists(
    st.lists(st.sampled_from([-torch.inf, 0.0, 1.0, 2.0]), min_size=4, max_size=4), min_size=1, max_size=6
)


@given(LEVELS, st.integers(0, 4))
def test_exactly_so_many_and_of_equal_ones_the_first(rows: list[list[float]], kept: int) -> None:
    scores = torch.tensor(rows)
    keep = best(scores, kept)
    expected = [[i in sorted(range(4), key=lambda i: -row[i])[:kept] for i in range(4)] for row in rows]
    assert keep.tolist() == expected
    assert best(scores, torch.full((len(rows), 1), kept)).tolist() == expected


def test_a_number_for_each_row() -> None:
    assert best(torch.tensor([[3.0, 1.0, 2.0]] * 2), torch.tensor([[1], [2]])).tolist() == [
        [True, False, False],
        [True, False, True],
    ]


@pytest.mark.parametrize("block", [2, 4, 8])
def test_blocks_of_a_matrix(block: int) -> None:
    scores = torch.arange(8.0).reshape(2, 4)
    keep = support(scores, block, 1)
    assert keep.shape == scores.shape
    assert keep.flatten().nonzero().flatten().tolist() == list(range(block - 1, 8, block))
