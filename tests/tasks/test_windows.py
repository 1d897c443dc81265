"""Where sequences begin and end."""

from __future__ import annotations

import pytest
import torch

from secateurs.tasks.windows import apart, in_a_row, spread, widest, with_start
from secateurs.types import SecateursError


def test_even_starts_reach_from_the_first_token_to_the_last() -> None:
    tokens = torch.arange(103)
    cut = spread(tokens, 10, 7)
    assert cut[:, 0].tolist() == [i * 93 // 6 for i in range(7)]
    assert cut[-1, -1] == 102
    assert torch.equal(cut - cut[:, :1], torch.arange(10).expand(7, 10))
    assert spread(tokens, 10, 1).tolist() == [list(range(10))]


def test_random_starts_are_the_seeds() -> None:
    tokens = torch.arange(1000)
    cut = spread(tokens, 10, 50, "random", seed=3)
    assert torch.equal(cut, spread(tokens, 10, 50, "random", seed=3))
    assert not torch.equal(cut, spread(tokens, 10, 50, "random", seed=4))
    assert int(cut.min()) >= 0 and int(cut.max()) <= 999 and len(cut[:, 0].unique()) > 40


def test_ready_sequences_are_chosen_whole() -> None:
    ready = torch.arange(40).reshape(5, 8)
    assert spread(ready, 6, 3).tolist() == [ready[i, :6].tolist() for i in (0, 2, 4)]
    assert torch.equal(in_a_row(ready, 6, 2), ready[:, :6])


def test_in_a_row_leaves_out_what_is_left_over() -> None:
    assert in_a_row(torch.arange(11), 4, 4).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert in_a_row(torch.arange(8), 4, 2)[:, 0].tolist() == [0, 2, 4]


def test_too_short() -> None:
    for tokens, kind in ((torch.arange(3), "the text is 3"), (torch.zeros(9, 3).long(), "each ready sequence is 3")):
        for cut in (lambda t: spread(t, 4, 2), lambda t: in_a_row(t, 4, 4)):
            with pytest.raises(SecateursError, match=kind):
                cut(tokens)


def test_small_things() -> None:
    front, back = apart(torch.arange(10), 0.2)
    assert front.tolist() == list(range(8)) and back.tolist() == [8, 9]
    assert with_start(torch.tensor([[5, 6]]), 1).tolist() == [[1, 5, 6]]
    assert widest([(3, 4), (2, 7)]) == 7 and widest([]) == 0


def test_more_sequences_than_fit_side_by_side_are_told(caplog: pytest.LogCaptureFixture) -> None:
    spread(torch.arange(100), 10, 10)
    assert not caplog.records
    assert spread(torch.arange(100), 10, 11).shape == (11, 10)
    assert "11 sequences are asked for, and the tokens give 10" in caplog.text
