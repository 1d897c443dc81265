"""Optimal brain surgeon, column by column over all rows at once (Frantar & Alistarh 2023).

With ``H = G + damping`` and ``H^-1 = U^T U``, U upper triangular, an entry of column q costs ``(w_q / U_qq)^2``. Going
from left to right, a dropped ``w_q`` is made up for by the columns to its right: ``w -= (w_q / U_qq) U_q``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from secateurs.solvers._moments import damped
from secateurs.solvers._support import best
from secateurs.types import Gram, SecateursError, check_damping


@dataclass(frozen=True)
class Sparsegpt:
    """Choose and make up for, tile of columns by tile of columns.

    The entries to drop are chosen for a tile at a time, by what they cost after all that was made up for so far; for
    N:M, for each M columns. Where entries compete in the whole layer, or in whole rows, each tile keeps its share. The
    scores are not looked at, but for entries that are gone already.

    Args:
        damping: Share of the mean of the Gram matrix' diagonal that is added to the diagonal, at least 0.
        columns: Of a tile, at least 1.

    Raises:
        SecateursError: A field is outside its range, or the second moments are not finite.
    """

    damping: float = 0.01
    columns: int = 128

    def __post_init__(self) -> None:
        """Check the fields."""
        check_damping("sparsegpt", self.damping, zero=True)
        if self.columns < 1:
            raise SecateursError(f"sparsegpt: columns must be at least 1, got {self.columns}")

    def __call__(self, weight: Tensor, gram: Gram, scores: Tensor, block: int, kept: int) -> tuple[Tensor, Tensor]:
        root = gram.once(self, self._root)
        values = weight.detach().float().T.clone(memory_format=torch.contiguous_format)  # columns are rows here
        gone = torch.isneginf(scores.T)
        keep = torch.zeros_like(values, dtype=torch.bool)
        spans = _spans(weight.shape[1], block, self.columns)
        shares = _shares(gone, spans, block, kept)
        for tile in _tiles(spans, self.columns):
            start, stop = tile[0][0], tile[-1][1]
            errors = torch.empty_like(values[start:stop])
            for first, last in tile:
                here = values[first:last]
                worth = (here / root.diagonal()[first:last, None]).square_().masked_fill_(gone[first:last], -torch.inf)
                keep[first:last] = _chosen(worth, shares[first])
                stays = keep[first:last] & ~gone[first:last]
                for q in range(first, last):
                    error = torch.div(values[q], root[q, q], out=errors[q - start]).masked_fill_(stays[q - first], 0.0)
                    values[q + 1 : stop].addr_(root[q, q + 1 : stop], error, alpha=-1)
            values[stop:].addmm_(root[start:stop, stop:].T, errors, alpha=-1)
        return keep.T.contiguous(), values.masked_fill_(gone | ~keep, 0.0).T.contiguous()

    def _root(self, matrix: Tensor) -> Tensor:
        """U, by factoring H backwards: the inverse of a lower factor, turned over, is an upper one."""
        _, factor = damped(matrix.flip(0, 1), self.damping)
        identity = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
        inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
        return inverse.flip(0, 1).contiguous()


def _spans(inputs: int, block: int, columns: int) -> list[tuple[int, int]]:
    """Stretches of columns whose entries are chosen at once: at most so many columns, and none crosses a block."""
    block = min(block, inputs)
    edges = [first + offset for first in range(0, inputs, block) for offset in range(0, block, columns)] + [inputs]
    return list(itertools.pairwise(edges))


def _tiles(spans: Sequence[tuple[int, int]], columns: int) -> Iterator[Sequence[tuple[int, int]]]:
    """Neighbouring spans, at most so many columns together, after which the columns to the right are updated."""
    tile: list[tuple[int, int]] = []
    for span in spans:
        if tile and span[1] - tile[0][0] > columns:
            yield tile
            tile = []
        tile.append(span)
    yield tile


def _shares(gone: Tensor, spans: Sequence[tuple[int, int]], block: int, kept: int) -> dict[int, Tensor]:
    """First column of a span -> how many of its entries stay: ``(o,)``, or ``(1,)`` where all rows compete.

    The spans of a block share ``kept`` by what they have left to choose from, rounded such that the sum is exact.
    """
    inputs = len(gone)
    left = torch.stack([(~gone[first:last]).sum(dim=0) for first, last in spans])
    size = torch.tensor([last - first for first, last in spans], device=gone.device)[:, None].expand_as(left)
    if block > inputs:
        left, size = left.sum(dim=1, keepdim=True), size.sum(dim=1, keepdim=True)
    n_blocks = max(1, inputs // block)
    left, size = (n.reshape(n_blocks, -1, n.shape[1]) for n in (left, size))
    left = torch.where(left.sum(dim=1, keepdim=True) >= kept, left, size)
    upto = kept * left.cumsum(dim=1) // left.sum(dim=1, keepdim=True)
    shares = upto.diff(dim=1, prepend=torch.zeros_like(upto[:, :1])).flatten(0, 1)
    return {first: share for (first, _), share in zip(spans, shares, strict=True)}


def _chosen(worth: Tensor, share: Tensor) -> Tensor:
    """True for the entries of a span ``(columns, o)`` that stay."""
    least, most = int(share.min()), int(share.max())
    if len(share) == 1 and len(worth[0]) > 1:
        return best(worth.reshape(1, -1), least).reshape(worth.shape)
    return best(worth.T, least if least == most else share[:, None]).T
