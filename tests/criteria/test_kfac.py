from __future__ import annotations

import pytest
import torch
from torch import Tensor

from criteria.conftest import Layered
from secateurs.criteria.kfac import Kfac
from secateurs.criteria.obs import Obs
from secateurs.types import Gram, Rows, SecateursError


def given() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, generator=source) @ torch.randn(5, 5, generator=source)
    return torch.randn(5, 3, generator=source), x.T @ x


def test_outputs_that_matter_alike_make_it_obs_and_one_that_does_not_matter_is_not_seen() -> None:
    weight, matrix = given()
    alike = Kfac()([Rows(weight, gram=Gram(matrix), gradient_gram=Gram(4 * torch.eye(3)))])
    assert torch.allclose(alike, 4 * Obs()([Rows(weight, gram=Gram(matrix))]), rtol=1e-4)
    blind = Kfac()([Rows(weight, gram=Gram(matrix), gradient_gram=Gram(torch.diag(torch.tensor([1.0, 1.0, 0.0]))))])
    assert torch.allclose(blind, Obs()([Rows(weight[:, :2], gram=Gram(matrix))]), rtol=1e-4)


def test_outputs_whose_errors_cancel_cost_nothing() -> None:
    weight, matrix = given()
    direction = torch.tensor([[1.0, -1.0, 0.0]])
    weight[:, 1] = weight[:, 0]
    found = Kfac()([Rows(weight, gram=Gram(matrix), gradient_gram=Gram(direction.T @ direction))])
    assert found.max() < 1e-5 < Obs()([Rows(weight, gram=Gram(matrix))]).min()


def test_the_neurons_of_a_network(layered: Layered) -> None:
    model, x = layered.model, layered.x
    hidden, errors = torch.zeros(8, 8), torch.zeros(4, 4)
    for batch in x:
        inputs = model[1](model[0](batch))
        outputs = model[2](inputs)
        (error,) = torch.autograd.grad(model[4](model[3](outputs)).square().mean(), outputs)
        hidden, errors = hidden + (inputs.T @ inputs).detach(), errors + error.T @ error
    expected = Kfac()([Rows(model[2].weight.detach().T, gram=Gram(hidden), gradient_gram=Gram(errors))])
    assert torch.allclose(layered.scores(Kfac()), expected, rtol=1e-2)


def test_a_damping_of_zero_and_units_that_no_matrix_reads_are_refused() -> None:
    with pytest.raises(SecateursError, match="kfac: damping must be above 0"):
        Kfac(damping=0.0)
    with pytest.raises(SecateursError, match="kfac: no weight of the group reads"):
        Kfac()([Rows(torch.ones(2, 1))])
