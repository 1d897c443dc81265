from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from secateurs.tasks.length_buckets import LengthBuckets


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=300), batch_size=st.integers(1, 9))
def test_every_example_once(lengths: list[int], batch_size: int) -> None:
    buckets = LengthBuckets(lengths, batch_size)
    batches = list(buckets)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert len(batches) == len(buckets)
    assert max(map(len, batches)) <= batch_size


def test_less_padding_than_shuffling_alone() -> None:
    lengths = torch.randint(3, 60, (2000,)).tolist()
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in LengthBuckets(lengths, 32))
    assert padded < 1.06 * sum(lengths)
    shuffled = torch.randperm(2000).split(32)
    assert sum(max(lengths[i] for i in batch) * len(batch) for batch in shuffled) > 1.5 * sum(lengths)


def test_every_pass_differs_and_the_seed_repeats_it() -> None:
    buckets = LengthBuckets(list(range(100)), 8)
    torch.manual_seed(1)
    first, second = list(buckets), list(buckets)
    torch.manual_seed(1)
    assert list(buckets) == first != second
