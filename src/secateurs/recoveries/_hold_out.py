"""Batches held out of a split, and the rest of it, which can be iterated again and again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from torch.utils.data import DataLoader, IterableDataset, Sampler

from secateurs.types import Batch


@dataclass(frozen=True)
class _Without(Sampler[list[int]]):
    """A batch sampler that never draws the held-out examples."""

    batches: Iterable[list[int]]
    held_out: frozenset[int] = field(default_factory=frozenset)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            left = [i for i in batch if i not in self.held_out]
            if left:
                yield left


def hold_out(batches: Iterable[Batch], n_batches: int, n_held_out: int) -> tuple[list[Batch], Iterable[Batch]]:
    """Take evenly spread batches out of a split: ``(held out, the rest)``; the rest can be iterated again and again.

    From a DataLoader over a map-style dataset the *examples* are taken out, so shuffling between passes cannot bring
    them back. From any other iterable the batches at the same positions are skipped in every pass. One batch alone
    serves as both.
    """
    if n_batches == 1:
        return list(itertools.islice(batches, 1)), batches
    n_held_out = min(max(1, n_held_out), n_batches - 1)
    positions = frozenset((2 * i + 1) * n_batches // (2 * n_held_out) for i in range(n_held_out))
    if (
        not isinstance(batches, DataLoader)
        or isinstance(batches.dataset, IterableDataset)
        or batches.batch_sampler is None
    ):
        return [b for i, b in enumerate(batches) if i in positions], _Skipping(batches, positions)
    chosen = [indices for i, indices in enumerate(batches.batch_sampler) if i in positions]
    rest = _Without(batches.batch_sampler, frozenset(itertools.chain.from_iterable(chosen)))
    return list(_rebatched(batches, chosen)), _rebatched(batches, rest)


def _rebatched(loader: DataLoader[Batch], batch_sampler: Iterable[list[int]]) -> DataLoader[Batch]:
    return DataLoader(
        loader.dataset,
        batch_sampler=batch_sampler,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
    )


@dataclass(frozen=True)
class _Skipping:
    """An iterable of batches without those at some positions."""

    batches: Iterable[Batch]
    positions: frozenset[int]

    def __iter__(self) -> Iterator[Batch]:
        return (batch for i, batch in enumerate(self.batches) if i not in self.positions)
