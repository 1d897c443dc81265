from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graph.rules.tracing import free, reason, traced


def heads(x: Tensor, n: int) -> Tensor:
    return x.view(*x.shape[:2], n, -1).transpose(1, 2)


def qkv(kv: int) -> dict[str, nn.Module]:
    return {"q": nn.Linear(6, 12), "k": nn.Linear(6, 3 * kv), "v": nn.Linear(6, 3 * kv), "o": nn.Linear(12, 5)}


TOKENS = torch.randn(2, 7, 6)


@pytest.mark.parametrize("fused", [True, False])
def test_attention_has_heads_and_two_sizes_of_a_head(fused: bool) -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        q, k, v = heads(self.q(x), 4), heads(self.k(x), 4), heads(self.v(x), 4)
        out = (
            F.scaled_dot_product_attention(q, k, v, scale=0.5)
            if fused
            else torch.softmax(q @ k.transpose(2, 3) / 2, -1) @ v
        )
        return self.o(out.transpose(1, 2).flatten(2))

    graph = traced(forward, TOKENS, **qkv(4))
    roles = sorted((dim.role, dim.size) for dim in graph.dims.values() if dim.frozen is None)
    assert roles == [("head_dim", 3), ("head_dim", 3), ("heads", 4)]
    assert graph.macs() == 2 * 7 * 6 * (12 + 12 + 12) + 2 * 4 * 7 * 7 * 3 * 2 + 2 * 7 * 12 * 5


def test_a_scale_that_follows_the_size_of_a_head_freezes_it() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        out = F.scaled_dot_product_attention(heads(self.q(x), 4), heads(self.k(x), 4), heads(self.v(x), 4))
        return self.o(out.transpose(1, 2).flatten(2))

    graph = traced(forward, TOKENS, **qkv(4))
    assert sorted(free(graph).values()) == [3, 4], "the size of a value head is free"
    assert any("scale" in (dim.frozen or "") for dim in graph.dims.values())


def test_grouped_queries_in_one_operator() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        q, k, v = heads(self.q(x), 4), heads(self.k(x), 2), heads(self.v(x), 2)
        out = F.scaled_dot_product_attention(q, k, v, scale=0.5, enable_gqa=True)
        return self.o(out.transpose(1, 2).flatten(2))

    graph = traced(forward, TOKENS, **qkv(2))
    roles = {dim.role: dim.size for dim in graph.dims.values() if dim.frozen is None}
    assert (roles["kv_heads"], roles["query_group"]) == (2, 2)


@pytest.mark.parametrize(
    ("conv", "after", "sizes"),
    [
        (nn.Conv2d(8, 6, 3), 6, [6, 8]),
        (nn.Conv2d(8, 8, 3, groups=8), 8, [8]),
        (nn.Conv2d(8, 12, 3, groups=4), 12, [2, 3, 4]),
        (nn.ConvTranspose2d(8, 6, 2, 2), 6, [6, 8]),
        (nn.Conv2d(8, 6, 3, stride=2, dilation=2), 6, [6, 8]),
    ],
)
def test_convolutions(conv: nn.Module, after: int, sizes: list[int]) -> None:
    layers = {"a": nn.Conv2d(2, 8, 1), "c": conv, "b": nn.Conv2d(after, 2, 1)}
    graph = traced(lambda self, x: self.b(torch.relu(self.c(torch.relu(self.a(x))))), torch.randn(2, 2, 9, 9), **layers)
    assert sorted(free(graph).values()) == sizes
    assert all(dim.role in {"channels", "channel_groups"} for dim in graph.dims.values() if dim.frozen is None)


@pytest.mark.parametrize("n", [1, 3])
def test_convolutions_of_any_number_of_dims(n: int) -> None:
    conv = {1: nn.Conv1d, 3: nn.Conv3d}[n]
    layers = {"a": conv(2, 5, 2), "b": conv(5, 2, 1)}
    graph = traced(lambda self, x: self.b(self.a(x)), torch.randn(2, 2, *(4,) * n), **layers)
    assert free(graph) == {"a.channels": 5}
    assert graph.macs() == 2 * 3**n * 5 * 2 * 2**n + 2 * 3**n * 2 * 5


def test_kernel_positions_and_inputs_and_outputs_are_frozen() -> None:
    graph = traced(lambda self, x: self.a(x), torch.randn(2, 2, 5, 5), a=nn.Conv2d(2, 3, 3))
    assert not free(graph)
    assert reason(graph, "a.input") == "an input of the model"
    assert reason(graph, "a.output") == "an output of the model"
    assert reason(graph, "a.weight[2]") == "a kernel position"


def test_weights_name_their_outputs_and_inputs() -> None:
    layers = {"a": nn.Conv2d(2, 3, 3), "b": nn.Linear(3, 4)}
    graph = traced(lambda self, x: self.b(self.a(x).amax((2, 3))), torch.randn(2, 2, 5, 5), **layers)
    found = {weight.name: (weight.outputs, weight.inputs) for weight in graph.weights}
    assert found == {"a.weight": ((0,), (1, 2, 3)), "b.weight": ((0,), (1,))}
