from __future__ import annotations

import pytest
import torch
from torch import nn

from secateurs.graph import trace
from secateurs.structures.block import Block
from secateurs.types import SecateursError


def test_units_are_tiles_with_all_their_kernel_positions() -> None:
    net = nn.Sequential(nn.Conv1d(4, 6, 2), nn.ReLU(), nn.Conv1d(6, 2, 1))
    (group,) = Block(3, 2)(trace(net, (torch.randn(2, 4, 5),)))
    assert (group.name, group.n_units, group.block) == ("0.weight", 4, 4)
    weight = torch.arange(6 * 4 * 2.0).reshape(6, 4, 2)
    rows = group.members[0].cut(weight)
    assert torch.equal(rows[1].sort().values, weight[:3, 2:].flatten())
    assert torch.equal(rows[2].sort().values, weight[3:, :2].flatten())
    mask = group.members[0].mask(torch.tensor([True, False, True, True]), weight.shape).expand(weight.shape)
    assert not mask[:3, 2:].any() and int((~mask).sum()) == 3 * 2 * 2


def test_what_tiles_do_not_fill_is_named() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    network = trace(net, (torch.randn(2, 4),))
    with pytest.raises(SecateursError, match=r"block: tiles of 4 x 4 do not fill 0\.weight \(6 x 4\)"):
        Block(4, 4)(network)
    assert Block(4, 4, keep=("0.*",))(network) == ()


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 4, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.bmm(x, self.w)


def test_no_tile_lies_in_two_matrices() -> None:
    network = trace(nn.Sequential(Experts(), nn.Linear(6, 2)), (torch.randn(3, 5, 4),))
    (group,) = Block(3, 2, keep=("1.*",))(network)
    mask = group.members[0].mask(torch.arange(12) == 5, (3, 4, 6)).expand(3, 4, 6)
    assert mask.nonzero().tolist() == [[1, 2, 0], [1, 2, 1], [1, 2, 2], [1, 3, 0], [1, 3, 1], [1, 3, 2]]
    with pytest.raises(SecateursError, match=r"tiles of 9 x 2 do not fill 0\.w \(6 x 4\)"):
        Block(9, 2, keep=("1.*",))(network)


def test_an_empty_tile_is_refused() -> None:
    with pytest.raises(SecateursError, match="at least one row and column, got 0 x 4"):
        Block(0, 4)
