"""Each operator that takes a statistic: the reference sees what stays, and the shrunk network computes the same."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graph.rules.tracing import Seen, see
from networks import groups_of
from secateurs import surgery
from secateurs.graph.statistics import reference
from secateurs.graph.trace import forward
from secateurs.types import Group, Plan

X = torch.randn(3, 4)


def hidden(function: Callable[[Tensor], Tensor]) -> Seen:
    """An expression of six hidden units between two linear layers."""
    return see(lambda m, x: m.b(function(m.a(x))), X, a=nn.Linear(4, 6), b=nn.Linear(6, 2))


def halves(it: Seen) -> tuple[tuple[Group, ...], Plan]:
    groups = groups_of(it.graph, flagged=True)
    return groups, Plan({group.name: torch.arange(group.n_units) % 2 == 0 for group in groups})


@pytest.mark.parametrize(
    "function",
    [
        lambda h: F.layer_norm(h, h.shape[-1:]),
        lambda h: F.rms_norm(h, h.shape[-1:]),
        lambda h: h - h.mean(-1, keepdim=True),
        lambda h: h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6),
        lambda h: h / (1 + h.var(-1, keepdim=True)),
        lambda h: h * torch.std(h, -1, keepdim=True, correction=0),
        lambda h: h * torch.var_mean(h, -1, keepdim=True)[0],
        lambda h: h * h.exp().mean(),
        lambda h: h * h.amin(-1, keepdim=True),
        lambda h: h * (1 + h.abs()).prod(-1, keepdim=True),
        lambda h: h * h.logsumexp(-1, keepdim=True),
        lambda h: h * (h.sigmoid() > 0).all(-1, keepdim=True) + h * (h < 0).any(-1, keepdim=True),
        lambda h: h.softmax(-1),
        lambda h: h * h.log_softmax(-1),
        lambda h: h.exp().cumsum(-1),
        lambda h: h * h.topk(2, -1).values.sum(-1, keepdim=True),
        lambda h: h * h.exp().norm(dim=-1, p=-1, keepdim=True),
    ],
)
def test_statistics_are_taken_over_what_stays(function: Callable[[Tensor], Tensor]) -> None:
    it = hidden(function)
    ((size, why),) = it.axis("a.weight")
    assert size == 6 and why and "a statistic is taken over it" in why
    assert it.proven(flagged=True)


def test_zeros_in_the_place_of_what_is_gone_give_something_else() -> None:
    it = hidden(lambda h: F.layer_norm(h, h.shape[-1:]))
    groups, plan = halves(it)
    masked = copy.deepcopy(it.model)
    surgery.mask_(masked, groups, plan)
    (plain,), (corrected,) = forward(masked, it.inputs), reference(masked, it.inputs, it.graph, groups, plan)
    assert float((plain - corrected).abs().max()) > 0.1
    (again,) = reference(it.model, it.inputs, it.graph, groups, Plan({}))
    assert torch.equal(again, forward(it.model, it.inputs)[0])


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 12), nn.GroupNorm(2, 12, affine=False), nn.GroupNorm(1, 12)], ids=str)
def test_a_group_norm_loses_channels_of_every_group_and_groups(norm: nn.Module) -> None:
    it = see(
        lambda m, x: m.b(torch.relu(m.n(m.a(x)))).mean((2, 3)),
        torch.randn(2, 3, 4, 4),
        a=nn.Conv2d(3, 12, 3),
        n=norm,
        b=nn.Conv2d(12, 2, 1, bias=False),
    )
    assert [dim.role for dim in it.graph.dims.values() if dim.flagged and not dim.frozen] == ["width"]
    assert len(it.proven(flagged=True)) == (1 if norm.num_groups == 1 else 2)
    groups, plan = halves(it)
    small = surgery.shrink(it.model, groups, plan, it.graph, it.inputs).model
    assert small.a.out_channels == (6 if norm.num_groups == 1 else 3)


def test_a_norm_over_two_dims() -> None:
    it = see(
        lambda m, x: m.b(m.n(m.a(x).view(-1, m.rows, m.columns)).flatten(1)),
        X,
        a=nn.Linear(4, 12),
        n=nn.LayerNorm((3, 4)),
        rows=3,
        columns=4,
        b=nn.Linear(12, 2),
    )
    assert sorted(size for size, _ in it.axis("a.weight")) == [3, 4]
    assert len(it.proven(flagged=True)) == 2


def test_the_default_scale_of_attention_follows_what_stays() -> None:
    def forward_(m: nn.Module, x: Tensor) -> Tensor:
        q, k, v = (layer(x).view(2, 5, 2, 6).transpose(1, 2) for layer in (m.q, m.k, m.v))
        y: Tensor = m.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return y

    layers = {name: nn.Linear(8, 12) for name in "qkv"}
    it = see(forward_, torch.randn(2, 5, 8), **layers, o=nn.Linear(12, 3))
    flags = [dim.flagged for dim in it.graph.dims.values() if dim.role == "head_dim"]
    assert flags == ["the scale of the attention follows its size", None]


def test_what_is_normed_and_summed_is_zero_where_it_is_gone() -> None:
    """A sum over a normed dim is free: without a shift of its own to fill the gap, and with one that goes along."""
    for norm in (nn.LayerNorm(6, elementwise_affine=False), nn.LayerNorm(6)):
        it = see(
            lambda m, x: m.b(x * m.n(m.a(x)).sum(-1, keepdim=True)), X, a=nn.Linear(4, 6), n=norm, b=nn.Linear(4, 2)
        )
        assert it.proven(flagged=True)


def test_what_tells_its_positions_apart_stays_whole() -> None:
    for function in (lambda h: h.sort(-1).values, lambda h: h * h.argmax(-1, keepdim=True)):
        assert all(dim.frozen for dim in hidden(function).graph.dims.values())
