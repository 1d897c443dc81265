"""Who sees which example: stratified halves and content-hashed carves, both pure functions of data and seed."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import torch


def stratified(labels: Sequence[int], sizes: Sequence[int], seed: int) -> list[list[int]]:
    """Deal examples into parts of these sizes so that every part has the classes in equal proportion.

    Each class is shuffled, then spread evenly over the unit interval; the parts are consecutive stretches of it.

    Args:
        labels: The class of each example.
        sizes: Examples in each part; they add up to at most ``len(labels)``.
        seed: Of the permutation.

    Returns:
        For each part the positions of its examples, ascending.
    """
    generator = torch.Generator().manual_seed(seed)
    places: list[tuple[float, int, int]] = []
    for label in sorted(set(labels)):
        members = [i for i, other in enumerate(labels) if other == label]
        order = torch.randperm(len(members), generator=generator).tolist()
        places += [((rank + 0.5) / len(members), label, members[i]) for rank, i in enumerate(order)]
    dealt = [i for _, _, i in sorted(places)]
    ends = itertools.accumulate(sizes, initial=0)
    return [sorted(dealt[begin:end]) for begin, end in itertools.pairwise(ends)]


def carve(texts: Sequence[str], size: int, seed: int) -> tuple[list[int], list[int]]:
    """Carve about ``size`` examples off by the hash of their content: ``(the rest, the carved)``.

    Which examples are carved depends on their text and the seed, not on their order; equal texts always go to the same
    side.
    """
    digests = [hashlib.sha256(f"{seed}\x1f{text}".encode()).digest() for text in texts]
    last = sorted(digests)[min(size, len(digests)) - 1]
    carved = [i for i, digest in enumerate(digests) if digest <= last]
    return [i for i, digest in enumerate(digests) if digest > last], carved
