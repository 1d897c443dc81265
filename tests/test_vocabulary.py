"""Layers with fewer rows than tokens speak the old numbers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from secateurs.types import SecateursError
from secateurs.vocabulary import ShortEmbedding, ShortLinear, can_shorten, shorten_

KEPT = (1, 2, 5)


def table(**settings: Any) -> nn.Embedding:
    return nn.Embedding(3, 4, **settings)


def test_kept_tokens_have_their_rows_and_others_zeros() -> None:
    short = table()
    rows = short.weight
    shorten_(short, KEPT, 6)
    assert isinstance(short, ShortEmbedding)
    ids = torch.tensor([[5, 0, 1], [2, 4, 2]])
    out = short(ids)
    zeros = torch.zeros(4)
    torch.testing.assert_close(out, torch.stack([rows[2], zeros, rows[0], rows[1], zeros, rows[1]]).view(2, 3, 4))
    assert torch.equal(short(ids.int()), out) and torch.equal(copy.deepcopy(short)(ids), out)
    out.sum().backward()
    assert rows.grad is not None and torch.equal(rows.grad[:, 0], torch.tensor([1.0, 2.0, 1.0]))
    assert list(short.state_dict()) == ["weight"]
    for wrong in (-1, 6):
        with pytest.raises((IndexError, RuntimeError)):
            short(torch.tensor([wrong]))


@pytest.mark.parametrize("size", [6, 9])
def test_padding_is_known_by_its_old_number(size: int) -> None:
    for padding, moved in ((2, [1, 0, 1]), (0, [1, 1, 1])):
        short = nn.Embedding(size, 4, padding_idx=padding)
        short.weight.data = short.weight.data[list(KEPT)]
        shorten_(short, KEPT, size)
        short(torch.tensor([0, *KEPT])).sum().backward()
        assert short.weight.grad is not None and short.weight.grad[:, 0].tolist() == moved


def test_gone_tokens_have_no_score() -> None:
    short = nn.Linear(4, 3)
    x = torch.randn(2, 4, requires_grad=True)
    scores = short(x)
    shorten_(short, KEPT, 6)
    assert isinstance(short, ShortLinear)
    out = short(x)
    assert torch.equal(out[:, list(KEPT)], scores) and bool((out[:, [0, 3, 4]] == -torch.inf).all())
    loss = nn.functional.cross_entropy(out, torch.tensor([1, 5]))
    loss.backward()
    assert loss.isfinite() and x.grad is not None and bool(x.grad.isfinite().all())
    torch.testing.assert_close(loss, nn.functional.cross_entropy(scores, torch.tensor([0, 2])))


def test_only_torchs_own_layers_with_a_row_for_each_token() -> None:
    class Own(nn.Embedding):
        pass

    assert not can_shorten(Own(3, 4)) and not can_shorten(table(max_norm=1.0)) and can_shorten(nn.Linear(2, 2))
    for layer, kept in ((Own(3, 4), KEPT), (table(), (1, 2)), (table(), (2, 1, 5)), (table(), (1, 2, 6))):
        with pytest.raises(SecateursError):
            shorten_(layer, kept, 6)
