"""Tiles of a matrix: set to zero together (Narang et al. 2017; Gray et al. 2017 for the kernels that skip them)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from secateurs.structures._dims import free_weights
from secateurs.types import Group, Member, Network, SecateursError, Weight, few


@dataclass(frozen=True)
class Block:
    """One group for each weight tensor that multiplies an activation; a unit is a tile of it, all kernel positions.

    Tiles are in the order of output features, then input features; those of a layer compete. Block-sparse formats store
    and multiply whole tiles (BSR of torch wants square ones); in a dense layout their zeros gain nothing.

    Args:
        rows: Output features in a tile.
        columns: Input features in a tile.
        outputs: Whether the last layers, whose outputs are the model's and no other layer reads, are pruned too.
        keep: Glob patterns of tensor names that are not touched.

    Raises:
        SecateursError: A tile is empty, or does not divide a tensor.
    """

    rows: int = 32
    columns: int = 32
    outputs: bool = False
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the tile."""
        if self.rows < 1 or self.columns < 1:
            raise SecateursError(f"block: a tile has at least one row and column, got {self.rows} x {self.columns}")

    def __call__(self, network: Network) -> tuple[Group, ...]:
        weights = tuple(free_weights(network, self.keep, self.outputs))
        sizes = {weight.name: (weight.shape[weight.outputs[-1]], weight.shape[weight.inputs[0]]) for weight in weights}
        unfilled = [f"{n} ({r} x {c})" for n, (r, c) in sizes.items() if r % self.rows or c % self.columns]
        if unfilled:
            raise SecateursError(
                f"block: tiles of {self.rows} x {self.columns} do not fill {few(unfilled)}; "
                "name them in keep, or choose another tile"
            )
        return tuple(self._group(weight) for weight in weights)

    def _group(self, weight: Weight) -> Group:
        features = weight.inputs[0]
        tiles = self._tiles(prod(weight.shape[axis] for axis in weight.outputs), weight.shape[features])
        member = Member(weight.name, (*weight.outputs, features), tiles)
        return Group(weight.name, len(tiles), (member,), len(tiles))

    def _tiles(self, rows: int, columns: int) -> Tensor:
        """The positions of each tile in the flattened matrix, ``(n_tiles, rows * columns)``."""
        at = torch.arange(rows * columns).reshape(rows // self.rows, self.rows, columns // self.columns, self.columns)
        return at.transpose(1, 2).reshape(-1, self.rows * self.columns)
