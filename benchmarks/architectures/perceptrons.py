"""Networks of linear layers, written with torch.nn alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.kinds import LABELS, Architecture, Inputs, Written, images, torch_nets, vectors


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(7, 22),
        nn.BatchNorm1d(22),
        nn.Sigmoid(),
        nn.Linear(22, 18),
        nn.GELU(),
        nn.Dropout(),
        nn.Linear(18, LABELS),
    )


def mixer() -> nn.Module:
    """Two perceptrons a block, one along the patches and one along the channels (Tolstikhin et al. 2021)."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.norm2(x))
        return self.head(self.norm3(x).mean(1))

    def two(n: int, m: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n, m), nn.GELU(), nn.Linear(m, n))

    norms = {f"norm{i}": nn.LayerNorm(26) for i in (1, 2, 3)}
    return Written(
        run,
        patches=nn.Conv2d(3, 26, 4, 4),
        tokens=two(16, 22),
        channels=two(26, 34),
        head=nn.Linear(26, LABELS),
        **norms,
    )


def graph_convolution() -> nn.Module:
    def run(self: Any, x: Tensor, adjacency: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(adjacency @ layer(x))
        return self.head(x.amax(1))

    return Written(run, layers=nn.ModuleList([nn.Linear(7, 18), nn.Linear(18, 22)]), head=nn.Linear(22, LABELS))


def highway() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(self.gate(x))
        return self.head(gate * F.relu(self.body(x)) + (1 - gate) * x)

    layers = {
        "stem": nn.Linear(7, 20),
        "gate": nn.Linear(20, 20),
        "body": nn.Linear(20, 20),
        "head": nn.Linear(20, LABELS),
    }
    return Written(run, **layers)


def bilinear() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.both(self.left(x), self.right(x))))

    return Written(
        run, left=nn.Linear(7, 12), right=nn.Linear(7, 14), both=nn.Bilinear(12, 14, 18), head=nn.Linear(18, LABELS)
    )


def low_rank() -> nn.Module:
    """A frozen layer with a product of two thin ones beside it (as LoRA, Hu et al. 2022)."""

    def run(self: Any, x: Tensor) -> Tensor:
        return self.head(F.silu(self.wide(x) + 0.5 * self.up(self.down(x))))

    return Written(
        run,
        wide=nn.Linear(7, 26),
        down=nn.Linear(7, 4, bias=False),
        up=nn.Linear(4, 26, bias=False),
        head=nn.Linear(26, LABELS),
    )


def _graphs(batch: int, length: int) -> Inputs:
    adjacency = (torch.rand(batch, length, length) < 0.4).float()
    return torch.randn(batch, length, 7), adjacency


NETWORKS: dict[str, Architecture] = {
    **torch_nets(vectors, mlp, highway, bilinear, low_rank),
    **torch_nets(images, mixer),
    **torch_nets(_graphs, graph_convolution),
}
