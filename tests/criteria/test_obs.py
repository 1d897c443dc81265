from __future__ import annotations

from itertools import combinations

import pytest
import torch

from criteria.conftest import Layered
from secateurs.criteria.obs import Obs
from secateurs.types import Gram, Rows, SecateursError


def given(units: int, size: int, outputs: int, seed: int = 0) -> Rows:
    """Correlated inputs, and a weight that reads ``size`` of them for each unit."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(50, units * size, generator=source) @ torch.randn(units * size, units * size, generator=source)
    return Rows(torch.randn(units, size * outputs, generator=source), gram=Gram(x.T @ x))


def least_loss(rows: Rows, gone: tuple[int, ...], damping: float) -> float:
    """What is lost of the outputs when these units go and the best values are found for the others."""
    assert rows.gram is not None
    matrix = rows.gram.matrix.double()
    matrix = matrix + damping * matrix.diagonal().mean() * torch.eye(len(matrix))
    weight = rows.weight.double().reshape(len(matrix), -1)
    stay = torch.ones(len(rows.weight), dtype=torch.bool)
    stay[list(gone)] = False
    kept = stay.repeat_interleave(len(matrix) // len(stay))
    new = torch.zeros_like(weight)
    new[kept] = torch.linalg.solve(matrix[kept][:, kept], (matrix @ weight)[kept])
    return float(((weight - new) * (matrix @ (weight - new))).sum())


@pytest.mark.parametrize("size", [1, 3])
def test_the_order_is_that_of_backward_elimination_and_sums_are_what_is_lost(size: int) -> None:
    rows = given(6, size, 4)
    found, damping = Obs(damping=0.05)([rows]), 0.05
    gone: tuple[int, ...] = ()
    for unit in found.argsort().tolist():
        losses = {u: least_loss(rows, (*gone, u), damping) for u in range(6) if u not in gone}
        assert unit == min(losses, key=losses.__getitem__)
        gone = (*gone, unit)
    assert float(found.sum()) == pytest.approx(least_loss(rows, gone, damping), rel=1e-4)


def test_the_first_is_the_best_of_all_and_later_ones_are_near_the_best_of_all_subsets() -> None:
    rows = given(6, 1, 3, seed=1)
    order = Obs()([rows]).argsort().tolist()
    for n in range(1, 6):
        best = min(least_loss(rows, subset, 0.01) for subset in combinations(range(6), n))
        assert least_loss(rows, tuple(order[:n]), 0.01) <= best * (1 + 1e-4 if n == 1 else 1.5)


def test_of_two_units_alike_one_goes_for_nothing_and_the_other_then_counts() -> None:
    x = torch.tensor([[1.0, 1.0, 0.0], [2.0, 2.0, 1.0], [0.0, 0.0, 3.0]])
    found = Obs(damping=1e-6)([Rows(torch.tensor([[1.0], [1.0], [0.1]]), gram=Gram(x.T @ x))])
    twins = found[:2].sort().values
    assert twins[0] < 1e-4 < found[2] < twins[1]


def test_many_units_go_as_one_by_one() -> None:
    """The inverse is brought up to date in stretches; what is lost by then is what is lost."""
    rows = given(100, 1, 5, seed=2)
    found = Obs()([rows])
    order = found.argsort().tolist()
    for n in (30, 70, 99):
        lost = least_loss(rows, tuple(order[:n]), 0.01)
        assert float(found[order[:n]].sum()) == pytest.approx(lost, rel=0.02)
    assert found.sort().values.diff().min() > 0


def test_weights_that_read_the_same_units_add_up() -> None:
    a, b = given(5, 1, 2, seed=3), given(5, 1, 3, seed=4)
    assert a.gram is not None
    b = Rows(b.weight, gram=a.gram)
    together = Rows(torch.cat([a.weight, b.weight], dim=1), gram=a.gram)
    assert torch.allclose(Obs()([a, b]), Obs()([together]), rtol=1e-4)


def test_the_neurons_of_a_network(layered: Layered) -> None:
    model, x = layered.model, layered.x
    hidden = model[1](model[0](x.flatten(0, 1))).detach()
    expected = Obs()([Rows(model[2].weight.detach().T, gram=Gram(hidden.T @ hidden))])
    assert torch.allclose(layered.scores(Obs()), expected, rtol=1e-3)


def test_units_that_no_matrix_reads_are_refused() -> None:
    with pytest.raises(SecateursError, match="obs: no weight of the group reads"):
        Obs()([Rows(torch.ones(2, 1))])
    with pytest.raises(SecateursError, match="obs: damping must be above 0"):
        Obs(damping=0.0)
