"""What a dim is said to cost is what taking it away saves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from secateurs.job.inspecting import inspect, inspect_named
from secateurs.types import SecateursError


def test_costs_of_an_mlp_by_hand() -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    found = inspect(model, (torch.randn(2, 5),))
    (hidden,) = [cost for cost in found.costs if cost.dim.frozen is None]
    assert hidden.dim.size == 7
    assert (hidden.unit_macs, hidden.macs) == (2 * (5 + 3), 2 * 7 * (5 + 3))
    assert (hidden.unit_parameters, hidden.parameters) == (5 + 1 + 3, 7 * (5 + 1 + 3))
    assert (found.macs, found.parameters) == (2 * 7 * 8, 5 * 7 + 7 + 7 * 3 + 3)
    assert found.unknown == ()


def test_modules_stand_in_order_of_execution() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(7, 3), nn.Linear(5, 7)
            self.both = nn.MultiheadAttention(7, 1)  # it reads its own child's weight without calling it
            self.norm = nn.BatchNorm1d(7, affine=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(self.first(x))[:, None]
            return self.last(self.both(y, y, y)[0])

    model = Backwards()
    assert inspect(model, (torch.randn(2, 5),)).modules == ("first", "norm", "both", "both.out_proj", "last")
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_layers_that_can_be_skipped_are_counted_and_priced() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(5, 7), nn.Linear(7, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = x + self.down(self.up(x).relu())
            return y

    model = nn.Sequential(nn.Linear(4, 5), Block(), Block(), Block(), nn.Linear(5, 2))
    (chain,) = [it for it in inspect(model, (torch.randn(2, 4),)).depths if it.of == "block"]
    assert (chain.size, chain.unit_macs, chain.unit_parameters) == (3, 2 * 2 * 5 * 7, 5 * 7 + 7 + 7 * 5 + 5)


def test_frozen_dims_say_why() -> None:
    found = inspect(nn.Linear(4, 2), (torch.randn(1, 4),))
    assert found.costs
    assert all(cost.dim.frozen for cost in found.costs)


def test_a_shape_that_does_not_run_says_what_a_shape_gives(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\n\ndef build():\n    return nn.Linear(4, 2)\n")
    with pytest.raises(SecateursError, match=r"fails on the example inputs: .*--shape gives random floats"):
        inspect_named(f"{tmp_path}/net.py:build", "1x3")
