from __future__ import annotations

import pytest
import torch

from secateurs.bases.principal import Principal
from secateurs.types import SecateursError


def test_a_rotation_is_the_axes_of_the_moments_the_longest_first() -> None:
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    moments = (turn * torch.tensor([1.0, 7.0, 3.0, 5.0])) @ turn.T
    made = Principal()(moments[None], torch.eye(4, dtype=torch.float64)[None], True)[0]
    torch.testing.assert_close(made @ moments @ made.T, torch.diag(torch.tensor([7.0, 5.0, 3.0, 1.0])).double())
    torch.testing.assert_close(made @ made.T, torch.eye(4, dtype=torch.float64))


def test_where_any_matrix_will_do_a_dropped_unit_loses_its_singular_value() -> None:
    x, weight = torch.randn(200, 5).double() @ torch.randn(5, 5).double(), torch.randn(7, 5).double()
    moments, readers = x.T @ x, weight.T @ weight
    made = Principal(damping=1e-12)(moments[None], readers[None], False)[0]
    units, reads = x @ made.T, weight @ torch.linalg.inv(made)
    singular = torch.linalg.svdvals(weight @ x.T)[:5].square()
    for kept in (1, 3):
        lost = (x @ weight.T - units[:, :kept] @ reads[:, :kept].T).square().sum()
        torch.testing.assert_close(lost, singular[kept:].sum(), rtol=1e-6, atol=0)  # no rank does better
    worth = reads.square().sum(0) * units.square().sum(0)  # what criteria of weights and activations see
    torch.testing.assert_close(worth, singular, rtol=1e-6, atol=0)
    torch.testing.assert_close(units.T @ units, torch.diag(singular), rtol=1e-6, atol=1e-6)  # and what leverage sees


def test_directions_that_nobody_reads_can_be_turned_back() -> None:
    x, weight = torch.randn(50, 4).double(), torch.randn(3, 4).double()
    weight[:, 2] = 0
    made = Principal()((x.T @ x)[None], (weight.T @ weight)[None], False)[0]
    assert torch.linalg.cond(made) < 1e5


def test_no_damping_is_refused() -> None:
    with pytest.raises(SecateursError, match="damping must be above 0"):
        Principal(damping=0.0)
