from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from graph.rules.tracing import Between
from networks import NETWORKS, trained_
from secateurs.graph.precision import UnfitError, forward_double
from secateurs.graph.trace import forward, state


@pytest.mark.parametrize("name", ["concat", "own_attention", "recurrent", "torch_transformer", "bert", "llama", "t5"])
def test_it_computes_what_a_copy_in_double_precision_computes(name: str) -> None:
    torch.manual_seed(0)
    model, inputs = NETWORKS[name].build(), NETWORKS[name].inputs(2, NETWORKS[name].length)
    mine = forward_double(model, inputs)
    for wide, narrow in zip(mine, forward(model, inputs), strict=True):
        if narrow.is_floating_point():
            assert wide.dtype == torch.float64
            assert torch.allclose(wide, narrow.double(), atol=1e-5 * float(narrow.abs().max()), rtol=0)


def test_a_precision_written_into_the_code_is_overruled() -> None:
    def function(self: Between, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(h.float().softmax(-1, dtype=torch.float32).to(self.b.weight.dtype) + torch.zeros(3))

    model = trained_(Between(function, a=nn.Linear(2, 3), b=nn.Linear(3, 2)))
    x = torch.randn(4, 2)
    (mine,) = forward_double(model, (x,))
    exact = torch.nn.functional.linear(
        torch.nn.functional.linear(x.double(), model.a.weight.double(), model.a.bias.double()).softmax(-1),
        model.b.weight.double(),
        model.b.bias.double(),
    )
    assert torch.allclose(mine, exact, rtol=1e-14, atol=0)


def test_masked_parameters_read_as_zero_and_stay_as_they_are() -> None:
    def function(self: Between, i: Tensor) -> Tensor:
        return self.out(self.table(i)) + self.table.weight[0, :1]

    model = trained_(Between(function, table=nn.Embedding(5, 4), out=nn.Linear(4, 2)).bfloat16())
    before = {name: tensor.clone() for name, tensor in state(model)}
    columns, rows = torch.tensor([[True, False, True, True]]), torch.tensor([[True], [False]])
    masks = {model.table.weight: columns, model.out.weight: rows}
    (mine,) = forward_double(model, (torch.tensor([1, 3]),), masks)
    assert all(torch.equal(before[name], tensor) for name, tensor in state(model))
    model.table.weight.data, model.out.weight.data = (t.data.double() * m for t, m in masks.items())
    (wanted,) = forward(model.double(), (torch.tensor([1, 3]),))
    assert torch.allclose(mine, wanted, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    "write", [lambda buffer: buffer.add_(1), lambda buffer: buffer[:1].fill_(2), lambda buffer: buffer.t().mul_(2)]
)
def test_a_network_that_writes_into_its_own_buffers_is_refused(write: Callable[[Tensor], Tensor]) -> None:
    model = Between(lambda self, x: x + write(self.held).sum())
    model.register_buffer("held", torch.ones(2, 2))
    with pytest.raises(UnfitError):
        forward_double(model, (torch.randn(2),))
    assert torch.equal(model.held, torch.ones(2, 2))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_layers_that_check_precisions_themselves_run(kind: type[nn.RNNBase]) -> None:
    model = trained_(kind(3, 4, num_layers=2, bidirectional=True))
    x = torch.randn(2, 5, 3)
    for mine, wanted in zip(forward_double(model, (x,)), forward(model.double(), (x.double(),)), strict=True):
        assert torch.allclose(mine, wanted, rtol=1e-12, atol=1e-14)
