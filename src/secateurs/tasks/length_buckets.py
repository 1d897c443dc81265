"""Batches of examples of similar length: less padding, so less work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class LengthBuckets(Sampler[list[int]]):
    """A batch sampler that shuffles, sorts stretches of 50 batches by length, and shuffles the batches.

    Every pass draws from torch's global random state, as a shuffling DataLoader does.

    Args:
        lengths: Length of each example.
        batch_size: Examples in a batch; the last one may be smaller.
    """

    _POOL = 50

    def __init__(self, lengths: Sequence[int], batch_size: int) -> None:
        """Remember the lengths."""
        self.lengths = torch.tensor(lengths)
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Count the batches of one pass."""
        return (len(self.lengths) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the positions of each batch."""
        batches: list[list[int]] = []
        for pool in torch.split(torch.randperm(len(self.lengths)), self._POOL * self.batch_size):
            by_length = pool[self.lengths[pool].argsort(stable=True)]
            batches += [batch.tolist() for batch in torch.split(by_length, self.batch_size)]
        for i in torch.randperm(len(batches)).tolist():
            yield batches[i]
