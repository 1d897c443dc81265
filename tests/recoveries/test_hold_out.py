"""What is held out never trains; the rest comes as it did."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from secateurs.recoveries._hold_out import hold_out


def numbered(n: int) -> TensorDataset:
    return TensorDataset(torch.arange(n))


@given(n=st.integers(2, 60), batch_size=st.integers(1, 7), wanted=st.integers(1, 80), seed=st.integers(0, 99))
def test_held_out_examples_never_train_again(n: int, batch_size: int, wanted: int, seed: int) -> None:
    torch.manual_seed(seed)
    loader: DataLoader[Any] = DataLoader(numbered(n), batch_size=batch_size, shuffle=True)
    held_out, rest = hold_out(loader, len(loader), wanted)
    if len(loader) == 1:
        return
    held = {int(i) for (batch,) in held_out for i in batch}
    for _ in range(3):
        seen = sorted(int(i) for (batch,) in rest for i in batch)
        assert seen == sorted(set(range(n)) - held)
    assert 0 < len(held) < n
    assert len(held_out) == min(wanted, len(loader) - 1)


def test_plain_iterables_skip_the_same_positions_in_every_pass() -> None:
    held_out, rest = hold_out(range(10), 10, 2)
    assert held_out == [2, 7]
    assert list(rest) == list(rest) == [0, 1, 3, 4, 5, 6, 8, 9]


def test_one_batch_serves_as_both() -> None:
    held_out, rest = hold_out(["only"], 1, 3)
    assert held_out == list(rest) == ["only"]


def test_the_collation_of_a_loader_is_kept() -> None:
    loader = DataLoader(numbered(8), batch_size=2, collate_fn=lambda rows: ("mine", len(rows)))
    held_out, rest = hold_out(loader, 4, 1)
    assert [*held_out, *rest] == [("mine", 2)] * 4
