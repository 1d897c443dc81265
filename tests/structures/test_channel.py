from __future__ import annotations

import torch
from torch import Tensor, nn

from secateurs.graph import trace
from secateurs.structures.channel import Channel
from secateurs.types import Group


class Residual(nn.Module):
    """A stem, a residual block, a grouped convolution, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.outer = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.grouped, self.head = nn.Conv2d(8, 12, 1, groups=4), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.outer(self.inner(x).relu())
        y: Tensor = self.head(self.grouped(x).relu().mean((2, 3)))
        return y


def groups(structure: Channel) -> dict[str, Group]:
    network = trace(Residual(), (torch.randn(2, 3, 5, 5),))
    return {next(m.tensor for m in g.members): g for g in structure(network)}


def test_channels_joined_by_an_addition_are_one_group() -> None:
    stem = groups(Channel())["stem.weight"]
    carriers = {(m.tensor, m.dims) for m in stem.members}
    assert {
        ("stem.weight", (0,)),
        ("norm.weight", (0,)),
        ("norm.running_mean", (0,)),
        ("outer.weight", (0,)),
    } <= carriers
    assert ("inner.weight", (1,)) in carriers
    assert {m.tensor for m in stem.members if not m.scored} == {"norm.running_mean", "norm.running_var"}


def test_channels_of_a_grouped_convolution_compete_inside_their_group() -> None:
    grouped = groups(Channel())["grouped.weight"]
    assert (grouped.n_units, grouped.block, len(grouped.dims)) == (12, 3, 2)
    assert [(m.tensor, m.dims) for m in grouped.members] == [
        ("grouped.weight", (0,)),
        ("grouped.bias", (0,)),
        ("head.weight", (1,)),
    ]


def test_inputs_and_outputs_stay() -> None:
    found = groups(Channel())
    assert found.keys() == {"stem.weight", "inner.weight", "grouped.weight"}
    for group in found.values():
        assert ("stem.weight", (1,)) not in {(m.tensor, m.dims) for m in group.members}
        assert ("head.weight", (0,)) not in {(m.tensor, m.dims) for m in group.members}


def test_keep() -> None:
    name = groups(Channel())["inner.weight"].name
    assert "inner.weight" not in groups(Channel(keep=(name,)))
    assert not groups(Channel(keep=("*",)))
