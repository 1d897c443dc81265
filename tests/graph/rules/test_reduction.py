from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graph.rules.tracing import free, hidden, reason, traced

IMAGE = torch.randn(2, 2, 6, 6)


@pytest.mark.parametrize(
    "act",
    [
        lambda h: F.layer_norm(h, (6,)),
        lambda h: h.softmax(-1),
        lambda h: h - h.mean(-1, keepdim=True),
        lambda h: h / (h.var(-1, keepdim=True) + 1),
        lambda h: h * h.amax(-1, keepdim=True),
        lambda h: h.cumsum(-1),
        lambda h: h.sort(-1).values,
        lambda h: h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6),
    ],
)
def test_a_statistic_over_a_dim_freezes_it(act: Callable[[Tensor], Tensor]) -> None:
    assert "statistic" in reason(hidden(act), next(n for n, d in hidden(act).dims.items() if d.size == 6))


def test_a_sum_and_a_length_do_not_see_zeros() -> None:
    assert list(free(hidden(lambda h: h / (1 + h.norm(dim=-1, keepdim=True)))).values()) == [6]
    assert list(free(hidden(lambda h: h * h.sum(-1, keepdim=True))).values()) == [6]


def net(norm: nn.Module) -> dict[str, nn.Module]:
    return {"a": nn.Conv2d(2, 8, 3), "n": norm, "b": nn.Conv2d(8, 2, 3)}


def run(self: nn.Module, x: Tensor) -> Tensor:
    return self.b(torch.relu(self.n(self.a(x))))


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_carries_the_channel(affine: bool) -> None:
    graph = traced(run, IMAGE, **net(nn.BatchNorm2d(8, affine=affine)))
    assert free(graph) == {"a.channels": 8} or list(free(graph).values()) == [8]
    assert "n.running_var[0]" in graph.dims[next(iter(free(graph)))].carriers


def test_group_norm_may_lose_groups_and_instance_norm_channels() -> None:
    graph = traced(run, IMAGE, **net(nn.GroupNorm(4, 8)))
    assert [(d.role, d.size) for d in graph.dims.values() if d.frozen is None] == [("channel_groups", 4)]
    graph = traced(run, IMAGE, **net(nn.GroupNorm(8, 8)))
    assert list(free(graph).values()) == [8]


@pytest.mark.parametrize(
    "pool",
    [
        lambda h: F.max_pool2d(h, 2),
        lambda h: F.avg_pool2d(h, 2),
        lambda h: F.adaptive_avg_pool2d(h, 2),
        lambda h: F.interpolate(h, scale_factor=2),
        lambda h: h.mean((2, 3), keepdim=True),
    ],
)
def test_pooling_passes_channels(pool: Callable[[Tensor], Tensor]) -> None:
    layers = {"a": nn.Conv2d(2, 8, 1), "b": nn.Conv2d(8, 2, 1)}
    assert free(traced(lambda self, x: self.b(pool(self.a(x))), IMAGE, **layers)) == {"a.channels": 8}


def test_weight_norm_freezes_what_its_length_is_taken_over() -> None:
    layers = {"a": nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), "b": nn.Linear(6, 2)}
    graph = traced(lambda self, x: self.b(self.a(x)), torch.randn(3, 4), **layers)
    assert any(dim.size == 6 for dim in graph.dims.values())
    assert all("statistic" in (dim.frozen or "") or dim.size != 4 or "input" in dim.role for dim in graph.dims.values())
