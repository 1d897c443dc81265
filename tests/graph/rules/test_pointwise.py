from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graph.rules.tracing import free, hidden, reason, traced

STAYS_ZERO: list[Callable[[Tensor], Tensor]] = [torch.relu, F.gelu, F.silu, torch.tanh, F.hardswish, lambda h: 3 * h]
LEAVES_ZERO: list[Callable[[Tensor], Tensor]] = [torch.sigmoid, torch.exp, torch.cos, lambda h: h + 1, F.softplus]


@pytest.mark.parametrize("act", STAYS_ZERO + LEAVES_ZERO)
def test_any_function_of_one_position_passes_to_weights_that_are_zeroed(act: Callable[[Tensor], Tensor]) -> None:
    assert free(hidden(act)) == {"a.neurons": 6}


@pytest.mark.parametrize("act", STAYS_ZERO)
def test_a_sum_over_what_stays_zero_passes(act: Callable[[Tensor], Tensor]) -> None:
    graph = traced(lambda self, x: self.b(act(self.a(x)).sum(1, keepdim=True)), torch.randn(3, 4), **pair(1))
    assert free(graph) == {"a.neurons": 6}


@pytest.mark.parametrize("act", LEAVES_ZERO)
def test_a_sum_over_what_does_not_stay_zero_is_frozen(act: Callable[[Tensor], Tensor]) -> None:
    graph = traced(lambda self, x: self.b(act(self.a(x)).sum(1, keepdim=True)), torch.randn(3, 4), **pair(1))
    assert "not zero" in reason(graph, "a.neurons")


def test_a_gate_that_is_not_zero_times_what_is_zero_is_zero() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b((torch.sigmoid(self.gate(x)) * self.a(x)).sum(1, keepdim=True))

    graph = traced(forward, torch.randn(3, 4), gate=nn.Linear(4, 6), **pair(1))
    assert list(free(graph).values()) == [6]


def test_division_by_what_pruning_zeroes_is_frozen() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(self.a(x) / self.c(x))

    graph = traced(forward, torch.randn(3, 4), c=nn.Linear(4, 6), **pair(6))
    assert not free(graph)


def test_broadcasting_joins_only_what_both_carry() -> None:
    scale = nn.Parameter(torch.ones(6))
    graph = traced(lambda self, x: self.b(self.a(x) * self.scale), torch.randn(3, 4), scale=scale, **pair(6))
    assert "scale[0]" in graph.dims[next(iter(free(graph)))].carriers
    one = nn.Parameter(torch.ones(1))
    graph = traced(lambda self, x: self.b(self.a(x) * self.scale), torch.randn(3, 4), scale=one, **pair(6))
    assert "scale[0]" not in graph.dims["a.neurons"].carriers


def test_in_place_operators_count_like_the_others() -> None:
    graph = traced(lambda self, x: self.b(self.a(x).relu_().mul_(2)), torch.randn(3, 4), **pair(6))
    assert free(graph) == {"a.neurons": 6}


def test_writing_into_a_view_is_seen_by_its_base() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        h = self.a(x)
        h.view(-1, 2, 3)[:, :, 0].add_(1)
        return self.b(h.sum(1, keepdim=True))

    assert not free(traced(forward, torch.randn(3, 4), **pair(1)))


def test_tensors_of_one_value_follow_whoever_they_meet() -> None:
    graph = traced(
        lambda self, x: self.b(torch.where(x.new_zeros(3, 6) > 0, 0.0, self.a(x))), torch.randn(3, 4), **pair(6)
    )
    assert free(graph) == {"a.neurons": 6}


def test_values_that_differ_by_position_freeze_what_they_meet() -> None:
    graph = traced(lambda self, x: self.b(self.a(x) * torch.arange(6)), torch.randn(3, 4), **pair(6))
    assert "made in the forward pass" in reason(graph, "a.neurons")


def pair(after: int) -> dict[str, nn.Module]:
    return {"a": nn.Linear(4, 6), "b": nn.Linear(after, 2)}
