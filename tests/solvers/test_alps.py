from __future__ import annotations

import itertools

import pytest
import torch

from secateurs.solvers._support import support
from secateurs.solvers.alps import Alps
from secateurs.types import Gram, SecateursError


def lost(weight: torch.Tensor, values: torch.Tensor, matrix: torch.Tensor) -> float:
    return float((((weight - values) @ matrix) * (weight - values)).sum())


def test_near_the_best_of_all_supports() -> None:
    source = torch.Generator().manual_seed(0)
    for _ in range(5):
        samples = torch.randn(30, 8, generator=source) @ (torch.eye(8) + 0.5 * torch.randn(8, 8, generator=source))
        matrix, weight = samples.T @ samples, torch.randn(1, 8, generator=source)
        every = []
        for chosen in itertools.combinations(range(8), 4):
            values, s = torch.zeros(1, 8), list(chosen)
            values[0, s] = torch.linalg.solve(matrix[s][:, s], (matrix @ weight[0])[s])
            every.append(lost(weight, values, matrix))
        _, values = Alps(damping=0.0)(weight, Gram(matrix), weight, 8, 4)
        assert min(every) * 0.999 <= lost(weight, values, matrix) <= sorted(every)[10]  # of 70


def test_inputs_with_nothing_in_common_leave_the_best_scored_as_they_are() -> None:
    source = torch.Generator().manual_seed(1)
    weight, power = torch.randn(4, 8, generator=source), torch.rand(8, generator=source) + 0.1
    keep, values = Alps(damping=0.0)(weight, Gram(torch.diag(power)), weight, 4, 2)
    assert torch.equal(keep, support(weight.abs() * power.sqrt(), 4, 2))
    torch.testing.assert_close(values, weight * keep)


@pytest.mark.parametrize("fields", [{"rho": 0.0}, {"iterations": 0}, {"refinements": -1}, {"damping": -1.0}])
def test_fields_outside_their_range(fields: dict[str, float]) -> None:
    with pytest.raises(SecateursError, match="alps: "):
        Alps(**fields)  # type: ignore[arg-type]
