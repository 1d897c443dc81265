from __future__ import annotations

import logging

import pytest
import torch

from secateurs.solvers._moments import damped
from secateurs.types import SecateursError


def test_damped_by_a_share_of_the_mean_diagonal() -> None:
    matrix = torch.tensor([[3.0, 1.0], [1.0, 1.0]])
    made, factor = damped(matrix, 0.5)
    assert made.tolist() == [[4.0, 1.0], [1.0, 2.0]]
    torch.testing.assert_close(factor @ factor.T, made)
    assert matrix[0, 0] == 3.0


def test_a_singular_matrix_is_damped_more_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "secateurs.solvers"):
        made, factor = damped(torch.ones(3, 3), 0.0)
    assert factor.isfinite().all()
    torch.testing.assert_close(made, torch.ones(3, 3), atol=1e-2, rtol=0.0)
    assert [message.split(":")[0] for message in caplog.messages] == ["singular second moments of a weight's input"]


def test_dead_inputs_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "secateurs.solvers"):
        damped(torch.diag(torch.tensor([1.0, 0.0, 2.0])), 0.01)
    assert caplog.messages == ["1 of 3 inputs of a weight are zero in all of the calibration data"]


def test_nothing_but_zeros_can_be_factored() -> None:
    assert torch.equal(damped(torch.zeros(2, 2), 0.01)[0], 0.01 * torch.eye(2))


def test_moments_that_are_not_finite() -> None:
    with pytest.raises(SecateursError, match="not finite; look for NaN in the activations"):
        damped(torch.tensor([[float("nan")]]), 0.01)
