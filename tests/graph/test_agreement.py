from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from graph.rules.tracing import Between
from secateurs.graph.agreement import COARSE, TOLERANCE, difference, reference


def test_what_differs_is_said_in_words() -> None:
    model, x = nn.Linear(3, 2), (torch.randn(4, 3),)
    wanted = [model(*x).detach()]
    assert difference(model, x, wanted) == ""
    assert "differs" in difference(model, x, [wanted[0] + 1e-3])
    assert "shape" in difference(model, x, [wanted[0][:2]])
    assert "number of tensors" in difference(model, x, [*wanted, *wanted])
    assert "does not run" in difference(model, (torch.randn(4, 5),), wanted)


def test_a_difference_below_single_precision_is_seen() -> None:
    model, x = nn.Linear(3, 2).bfloat16(), (torch.randn(4, 3),)
    wanted = reference(model, x)
    assert (wanted.tolerance, wanted.outputs[0].dtype) == (TOLERANCE, torch.float64)
    assert wanted.difference(model) == ""
    other = copy.deepcopy(model).double()
    other.bias.data += 1e-7
    assert "differs" in wanted.difference(other)


@pytest.mark.parametrize(("dtype", "run_in"), [(torch.float32, torch.float64), (torch.bfloat16, torch.float64)])
def test_a_network_that_writes_its_buffers_is_run_in_a_copy(dtype: torch.dtype, run_in: torch.dtype) -> None:
    def function(self: Between, x: Tensor) -> Tensor:
        self.seen.add_(1)
        return self.a(x) + self.seen

    model = Between(function, a=nn.Linear(3, 2))
    model.register_buffer("seen", torch.zeros(2))
    model = model.to(dtype)
    x = (torch.randn(4, 3, dtype=dtype),)
    wanted = reference(model, x, masks={model.a.weight: torch.zeros(2, 1, dtype=torch.bool)})
    assert wanted.outputs[0].dtype == run_in
    assert torch.allclose(wanted.outputs[0], (model.a.bias.double() + 1).expand(4, 2))
    assert not model.seen.any() and model.a.weight.any()
    assert "differs" in wanted.difference(model)


def test_a_precision_that_an_operator_needs_is_kept() -> None:
    def function(self: Between, x: Tensor) -> Tensor:
        if x.dtype == torch.float64:
            raise TypeError
        return self.a(x)

    model, x = Between(function, a=nn.Linear(3, 2)).bfloat16(), (torch.randn(4, 3).bfloat16(),)
    assert reference(model, x).outputs[0].dtype == torch.float32
    assert (reference(model.float(), (x[0].float(),)).tolerance, model.a.weight.dtype) == (COARSE, torch.float32)
