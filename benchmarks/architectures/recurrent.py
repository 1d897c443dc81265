"""Recurrent networks and attention as torch.nn has them, and attention as people write it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.kinds import LABELS, VOCABULARY, Architecture, Inputs, Written, numbers, rows, torch_nets


def _recurrent(layer: nn.Module, width: int) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.head(self.layer(self.stem(x))[0][:, -1])

    return Written(run, stem=nn.Linear(7, 14), layer=layer, head=nn.Linear(width, LABELS))


def rnn() -> nn.Module:
    return _recurrent(nn.RNN(14, 18, batch_first=True), 18)


def lstm() -> nn.Module:
    return _recurrent(nn.LSTM(14, 18, batch_first=True), 18)


def gru() -> nn.Module:
    return _recurrent(nn.GRU(14, 18, num_layers=2, batch_first=True), 18)


def lstm_both_ways() -> nn.Module:
    return _recurrent(nn.LSTM(14, 18, num_layers=2, bidirectional=True, batch_first=True), 36)


def lstm_projected() -> nn.Module:
    return _recurrent(nn.LSTM(14, 18, proj_size=10, batch_first=True), 10)


def lstm_cell() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 18)
        for step in x.unbind(1):
            h, c = self.cell(step, (h, c))
        return self.head(h)

    return Written(run, cell=nn.LSTMCell(7, 18), head=nn.Linear(18, LABELS))


def crnn() -> nn.Module:
    """Convolutions, then a recurrent layer over what they leave."""

    def run(self: Any, x: Tensor) -> Tensor:
        return self.head(self.layer(F.relu(self.conv(x.transpose(1, 2))).transpose(1, 2))[0])

    return Written(
        run, conv=nn.Conv1d(7, 16, 3, padding=1), layer=nn.GRU(16, 20, batch_first=True), head=nn.Linear(20, LABELS)
    )


def language_model() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.head(self.layer(self.table(x))[0])

    return Written(
        run, table=nn.Embedding(VOCABULARY, 20), layer=nn.LSTM(20, 26, batch_first=True), head=nn.Linear(26, VOCABULARY)
    )


def multihead_attention() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.attention(x, x, x, need_weights=False)[0])

    attention = nn.MultiheadAttention(48, 6, batch_first=True)
    return Written(run, stem=nn.Linear(7, 48), attention=attention, head=nn.Linear(48, LABELS))


def cross_attention() -> nn.Module:
    """Queries of its own look at the input; keys and values of another width; the weights are returned too."""

    def run(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        mixed, weights = self.attention(self.queries.weight.expand(len(x), -1, -1), x, x)
        return self.head(mixed), weights

    attention = nn.MultiheadAttention(48, 6, kdim=7, vdim=7, batch_first=True)
    return Written(run, queries=nn.Embedding(5, 48), attention=attention, head=nn.Linear(48, LABELS))


def transformer_encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(48, 6, 56, batch_first=True)
    body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(nn.Linear(7, 48), body, nn.Linear(48, LABELS))


def transformer_encoder_first_norm() -> nn.Module:
    layer = nn.TransformerEncoderLayer(48, 6, 56, batch_first=True, norm_first=True, activation="gelu")
    body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(nn.Linear(7, 48), body, nn.Linear(48, LABELS))


def transformer() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.body(x, x[:, 1:]))

    body = nn.Transformer(48, 6, 1, 1, 56, batch_first=True)
    return Written(run, stem=nn.Linear(7, 48), body=body, head=nn.Linear(48, LABELS))


class OwnAttention(nn.Module):
    """A fused projection, heads in the middle, sizes kept in Python."""

    def __init__(self, product: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.heads, self.head_dim, self.product = 6, 8, product
        self.stem, self.qkv, self.out = nn.Linear(7, 40), nn.Linear(40, 144), nn.Linear(48, 40)
        self.norm, self.head = nn.LayerNorm(40), nn.Linear(40, LABELS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        batch, length, _ = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, length, 3, self.heads, self.head_dim)
        mixed = self.product(*qkv.unbind(2)).reshape(batch, length, self.heads * self.head_dim)
        out: Tensor = self.head(x + self.out(mixed))
        return out


def _einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.einsum("bihd,bjhd->bhij", q, k).mul(0.35).softmax(-1)
    return torch.einsum("bhij,bjhd->bihd", weights, v)


def _linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Without a softmax: keys and values first (Katharopoulos et al. 2020)."""
    q, k = F.elu(q) + 1, F.elu(k) + 1
    return torch.einsum("bihd,bhde->bihe", q, torch.einsum("bjhd,bjhe->bhde", k, v)) / k.shape[1]


def einsum_attention() -> nn.Module:
    return OwnAttention(_einsum)


def linear_attention() -> nn.Module:
    return OwnAttention(_linear)


def mixture() -> nn.Module:
    """Experts in a list, weighed by a softmax over all of them."""

    def run(self: Any, x: Tensor) -> Tensor:
        weights = self.router(x).softmax(-1)
        return self.head(sum(weights[..., i, None] * expert(x) for i, expert in enumerate(self.experts)))

    experts = nn.ModuleList(nn.Sequential(nn.Linear(7, 18), nn.ReLU(), nn.Linear(18, 14)) for _ in range(3))
    return Written(run, router=nn.Linear(7, 3), experts=experts, head=nn.Linear(14, LABELS))


def two_towers() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        left, right = (F.normalize(tower(x.mean(1)), dim=-1) for tower in (self.left, self.right))
        return left @ right.T

    def tower(n: int) -> nn.Module:
        return nn.Sequential(nn.Linear(7, n), nn.ReLU(), nn.Linear(n, 12))

    return Written(run, left=tower(18), right=tower(22))


def _one_length(batch: int, _: int) -> Inputs:
    return rows(batch, 6)


NETWORKS: dict[str, Architecture] = {
    **torch_nets(rows, rnn, lstm, gru, lstm_both_ways, lstm_projected, crnn, mixture, two_towers),
    **torch_nets(_one_length, lstm_cell),
    **torch_nets(numbers, language_model),
    **torch_nets(
        rows, multihead_attention, cross_attention, transformer_encoder, transformer_encoder_first_norm, attention=True
    ),
    **torch_nets(rows, transformer, einsum_attention, linear_attention, attention=True),
}
