from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from secateurs.recoveries._beside import Beside, Change, Sums, Walk
from secateurs.recoveries._layers import Layer
from secateurs.recoveries.bias import Bias
from secateurs.testing import example_task
from secateurs.types import SecateursError, Task


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    out: Tensor = model(batch)
    return out.square().mean()


def task_of(*batches: Tensor) -> Task:
    quality = example_task().quality
    return Task("toy", batches[:1], {"train": batches}, loss, lambda m, b: (m(b), b), quality)


class Noting(Beside):
    """Doubles every layer, and notes how far each is from the dense one when its turn comes."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "errors", {})

    def mends(self, layer: Layer, masks: Mapping[str, Tensor]) -> bool:
        return True

    def change(self, layer: Layer, sums: Sums, masks: Mapping[str, Tensor]) -> Change:
        self.errors[layer.name] = sums.error / sums.number  # type: ignore[attr-defined]
        return layer.weight.clone(), None


def test_a_layer_meets_what_the_mended_ones_before_it_give() -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 3, bias=False))
    model, batches = copy.deepcopy(dense), [torch.randn(n, 4) for n in (5, 7)]
    noting = Noting()
    noting(model, {}, task_of(*batches), dense)
    whole = torch.cat(batches)
    assert not noting.errors["0"].any()  # type: ignore[attr-defined]
    assert torch.allclose(noting.errors["2"], -dense(whole).mean(dim=0), atol=1e-5)  # type: ignore[attr-defined]
    assert torch.allclose(model(whole), 4 * dense(whole), atol=1e-5)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_batches_of_which_a_layer_sees_other_positions_are_no_comparison() -> None:
    class Routed(nn.Module):
        """Positions above a bound go to the expert."""

        def __init__(self, bound: float) -> None:
            super().__init__()
            self.all, self.expert, self.bound = nn.Linear(4, 4), nn.Linear(4, 4), bound

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.all(x)
            y[x[:, 0] > self.bound] += self.expert(x[x[:, 0] > self.bound])
            return y

    torch.manual_seed(0)
    noting = Noting()
    noting(Routed(0.0), {}, task_of(torch.randn(32, 4)), Routed(1.0))
    assert noting.errors.keys() == {"all"}  # type: ignore[attr-defined]


def test_a_walk_ends() -> None:
    walk = Walk(nn.Identity(), task_of(torch.ones(1)), torch.ones(1))
    assert walk.dead
    walk.on()
    assert walk.name == ""


def test_fields_and_data_are_checked() -> None:
    with pytest.raises(SecateursError, match="bias: batches must be at least 1, got 0"):
        Bias(batches=0)
    with pytest.raises(SecateursError, match="bias: there is no dense network"):
        Bias()(nn.Identity(), {}, task_of(torch.ones(1)))
    empty = Task("none", (), {"train": []}, loss, lambda m, b: (b, b), example_task().quality)
    with pytest.raises(SecateursError, match="bias: the train split of task 'none' is empty"):
        Bias()(nn.Identity(), {}, empty, nn.Identity())
    assert Beside().batches == 16
