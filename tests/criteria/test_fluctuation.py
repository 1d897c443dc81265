from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateurs.criteria.fluctuation import Fluctuation
from secateurs.evidence import scores
from secateurs.graph import trace
from secateurs.structures.neuron import Neuron
from secateurs.testing import example_task
from secateurs.types import Rows, SecateursError, Task


def test_squared_weight_times_variance() -> None:
    read = Rows(torch.tensor([[-2.0, 1.0], [3.0, 0.0]]), activation_variance=torch.tensor([[2.0, 2.0], [0.5, 0.5]]))
    made = Rows(torch.full((2, 3), 9.0))
    assert Fluctuation()([made, read]).tolist() == [10.0, 4.5]


def test_the_paper_formula_on_the_neurons_of_a_network() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(3, 16, 5) + 1

    def loss(network: nn.Module, batch: Tensor) -> Tensor:
        out: Tensor = network(batch)
        return out.square().mean()

    task = Task("toy", (x[0],), {"train": list(x)}, loss, lambda m, b: (m(b), b), example_task().quality)
    groups = Neuron()(trace(model, (x[0],)))
    found = scores(model, groups, Fluctuation(), task, 3)
    hidden = model[1](model[0](x.flatten(0, 1)))
    expected = hidden.var(dim=0, correction=0) * model[2].weight.square().sum(dim=0)
    by_size = {len(score): score for score in found.values()}
    assert torch.allclose(by_size[8], expected, rtol=1e-4)


def test_units_that_nobody_reads_are_refused() -> None:
    with pytest.raises(SecateursError, match="fluctuation: no weight of the group reads"):
        Fluctuation()([Rows(torch.ones(2, 1))])
