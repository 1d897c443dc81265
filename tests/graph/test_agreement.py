from __future__ import annotations

import torch
from torch import nn

from secateurs.graph.agreement import difference, in_single


def test_what_differs_is_said_in_words() -> None:
    model, x = nn.Linear(3, 2), (torch.randn(4, 3),)
    wanted = [model(*x).detach()]
    assert difference(model, x, wanted) == ""
    assert "differs" in difference(model, x, [wanted[0] + 1e-3])
    assert "shape" in difference(model, x, [wanted[0][:2]])
    assert "number of tensors" in difference(model, x, [*wanted, *wanted])
    assert "does not run" in difference(model, (torch.randn(4, 5),), wanted)


def test_half_precision_is_compared_in_single() -> None:
    model, x = nn.Linear(3, 2).bfloat16(), torch.randn(4, 3).bfloat16()
    trial, inputs = in_single(model, (x,))
    assert trial is not model and inputs[0].dtype == trial.weight.dtype == torch.float32  # type: ignore[index]
    assert model.weight.dtype == torch.bfloat16
