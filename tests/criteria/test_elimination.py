from __future__ import annotations

import pytest
import torch

from secateurs.criteria._elimination import Reader, losses
from secateurs.types import Gram, SecateursError


def test_of_independent_inputs_each_loses_its_own_part_and_nothing_is_changed() -> None:
    weight, matrix = torch.tensor([[2.0, 1.0], [0.0, 3.0], [0.0, 0.0]]), torch.diag(torch.tensor([4.0, 1.0, 1.0]))
    before = weight.clone(), matrix.clone()
    found = losses("x", [Reader(weight, Gram(matrix), 3, 1e-9)])
    assert torch.allclose(found, torch.tensor([20.0, 9.0, 0.0], dtype=torch.float64), rtol=1e-5)
    assert torch.equal(before[0], weight) and torch.equal(before[1], matrix)


def test_a_later_removal_that_costs_less_shares_with_the_earlier_one() -> None:
    """x1 and x2 are nearly the same and are subtracted: the first to go takes it all, the second nothing."""
    matrix = torch.tensor([[1.0, 0.99], [0.99, 1.0]])
    found = losses("x", [Reader(torch.tensor([[1.0], [-1.0]]), Gram(matrix), 2, 1e-9)]).sort().values
    assert torch.allclose(found.sum(), torch.tensor(0.02, dtype=torch.float64), rtol=1e-3)
    assert found[0] < found[1] and torch.allclose(found[0], found[1], rtol=1e-6)


def test_units_that_no_weight_reads() -> None:
    with pytest.raises(SecateursError, match="x: no weight of the group reads its units"):
        losses("x", [])
