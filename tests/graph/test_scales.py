from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateurs.graph import Scale, scales


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(4))
        self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(x / x.square().mean(-1, keepdim=True).sqrt())

    def read(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Both(Net):
    def read(self, x: Tensor) -> Tensor:
        x = x * self.gain
        return self.one(x) + self.two(x)[..., :3]


class Shifted(Net):
    def read(self, x: Tensor) -> Tensor:
        return self.one(x * (1.0 + self.gain))


class Unscaled(Net):
    def read(self, x: Tensor) -> Tensor:
        return self.one(x * self.gain) + self.one(x)


class Multiplied(Net):
    def read(self, x: Tensor) -> Tensor:
        x = x * self.gain
        return self.one(x @ x.T @ self.two(x))


class Bias(Net):
    def read(self, x: Tensor) -> Tensor:
        return self.one(x + self.gain)


ONE, TWO = ("one.weight", "one"), ("two.weight", "two")


@pytest.mark.parametrize(
    ("net", "wanted"),
    [
        (Both, Scale(0.0, (ONE, TWO), ())),
        (Shifted, Scale(1.0, (ONE,), ())),
        (Unscaled, Scale(0.0, (ONE,), ("aten.addmm",))),
        (Multiplied, Scale(0.0, (TWO,), ("aten.mm",))),
        (Bias, None),
    ],
)
def test_who_reads_a_scale(net: type[Net], wanted: Scale | None) -> None:
    assert scales(net(), (torch.randn(2, 4),)).get("gain") == wanted


def test_scales_of_norms_of_torch() -> None:
    class Norms(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.root, self.layer, self.out = nn.RMSNorm(4), nn.LayerNorm(4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.out(self.layer(self.root(x))))

    found = scales(Norms(), (torch.randn(2, 4),))
    assert found["root.weight"].weights == (("out.weight", "out"),)
    assert {"root.weight", "layer.weight"} <= found.keys()
