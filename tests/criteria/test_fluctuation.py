from __future__ import annotations

import pytest
import torch

from criteria.conftest import Layered
from secateurs.criteria.fluctuation import Fluctuation
from secateurs.types import Rows, SecateursError


def test_squared_weight_times_variance() -> None:
    read = Rows(torch.tensor([[-2.0, 1.0], [3.0, 0.0]]), activation_variance=torch.tensor([[2.0, 2.0], [0.5, 0.5]]))
    made = Rows(torch.full((2, 3), 9.0))
    assert Fluctuation()([made, read]).tolist() == [10.0, 4.5]


def test_the_paper_formula_on_the_neurons_of_a_network(layered: Layered) -> None:
    model, x = layered.model, layered.x
    hidden = model[1](model[0](x.flatten(0, 1)))
    expected = hidden.var(dim=0, correction=0) * model[2].weight.square().sum(dim=0)
    assert torch.allclose(layered.scores(Fluctuation()), expected, rtol=1e-4)


def test_units_that_nobody_reads_are_refused() -> None:
    with pytest.raises(SecateursError, match="fluctuation: no weight of the group reads"):
        Fluctuation()([Rows(torch.ones(2, 1))])
