from __future__ import annotations

import torch
from torch import Tensor, nn

from graph.rules.tracing import free, reason, traced

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
