from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graph.rules.tracing import free, reason, see, traced

IDS = torch.randint(0, 9, (3, 5))


def test_an_embedding_freezes_its_rows_and_passes_its_width() -> None:
    layers = {"e": nn.Embedding(9, 6), "b": nn.Linear(6, 2)}
    graph = traced(lambda self, x: self.b(self.e(x)), IDS, **layers)
    assert list(free(graph).values()) == [6]
    assert "picked by data" in reason(graph, "e.vocabulary")


def test_rows_picked_by_a_tensor_pass_what_they_carry() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x))[torch.tensor([2, 0])])

    graph = traced(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert free(graph) == {"a.neurons": 6}


def test_columns_picked_by_a_tensor_freeze() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(self.a(x)[:, torch.tensor([2, 0, 1])])

    graph = traced(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(3, 2))
    assert "picked by data" in str([dim.frozen for dim in graph.dims.values()])
    assert not free(graph)


def test_two_indices_side_by_side_make_their_dims_where_they_stand() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        h = self.a(x).view(3, 2, 2, 6)
        rows = torch.tensor([0, 1, 0])
        return self.b(h[:, rows, rows])

    graph = traced(forward, torch.randn(3, 4, 5), a=nn.Linear(5, 6), b=nn.Linear(6, 2))
    assert 6 in free(graph).values()


def test_index_select_along_another_dim_passes() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(self.a(x).index_select(0, torch.tensor([1, 1])))

    assert free(traced(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2))) == {"a.neurons": 6}


def test_two_indices_apart_make_their_dim_first() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        rows = torch.tensor([0, 1, 0])
        return self.b(self.a(x).view(x.shape[0], 2, self.n, 2, -1)[:, rows, :, rows].sum((1, 2)))

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 120), b=nn.Linear(6, 2), n=5)
    assert it.proven()
    assert it.free("b.weight", 1) == [6]


def test_a_mask_picks_positions_of_what_it_masks() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(self.a(x)[x[:, 0] > -9])

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert it.free("a.weight") == [6]
    assert it.proven()


def test_a_mask_over_a_dim_freezes_it() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(h)[0] + h[h > 0].sum()

    assert "picked by data" in see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2)).reason("a.weight")


def test_what_is_counted_position_by_position_is_frozen() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b((self.a(x) > 0).nonzero().float().sum(0))

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(2, 2))
    assert it.reason("a.weight") == "its positions are counted"


@pytest.mark.parametrize("name", ["gather", "scatter", "index_add", "take_along_dim"])
def test_an_operator_without_a_rule_freezes_what_it_picks_from(name: str) -> None:
    index = torch.tensor([[2, 0, 1]] * 3)
    functions = {
        "gather": lambda h: h.gather(1, index),
        "take_along_dim": lambda h: h.take_along_dim(index, 1),
        "scatter": lambda h: torch.zeros(3, 3).scatter(1, index, h),
        "index_add": lambda h: torch.zeros(3, 3).index_add(1, index[0], h),
    }
    it = see(lambda m, x: m.b(functions[name](m.a(x))), torch.randn(3, 4), a=nn.Linear(4, 3), b=nn.Linear(3, 2))
    operator = "aten.gather" if name == "take_along_dim" else f"aten.{name}"
    assert it.reason("a.weight") == f"operator {operator} has no rule"
    assert it.graph.unknown == {operator}
