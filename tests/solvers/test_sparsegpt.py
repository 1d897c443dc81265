from __future__ import annotations

import pytest
import torch
from torch import Tensor

from secateurs.solvers._support import support
from secateurs.solvers.sparsegpt import Sparsegpt
from secateurs.types import Gram, SecateursError


def correlated(outputs: int = 5, inputs: int = 16, seed: int = 0) -> tuple[Tensor, Gram, Tensor]:
    """A weight, the moments of inputs that have much in common, and what Wanda gives."""
    source = torch.Generator().manual_seed(seed)
    mixed = torch.eye(inputs) + 0.4 * torch.randn(inputs, inputs, generator=source)
    samples = torch.randn(100, inputs, generator=source) @ mixed
    weight, gram = torch.randn(outputs, inputs, generator=source), Gram(samples.T @ samples)
    return weight, gram, weight.abs() * gram.matrix.diagonal().sqrt()


def lost(weight: Tensor, values: Tensor, gram: Gram) -> float:
    return float((((weight - values) @ gram.matrix) * (weight - values)).sum())


def by_elimination(weight: Tensor, matrix: Tensor, kept: int) -> Tensor:
    """The paper's figure, one row at a time, with the inverse of what is still to the right at every column."""
    values = weight.double().clone()
    inverse = torch.linalg.inv(matrix.double())
    costs, left = values.square(), inverse
    for q in range(len(matrix)):
        costs[:, q] /= left[0, 0]
        left = left[1:, 1:] - left[1:, :1] @ left[:1, 1:] / left[0, 0]
    keep = support(costs, weight.shape[1], kept)
    left = inverse
    for q in range(len(matrix)):
        error = torch.where(keep[:, q], 0.0, values[:, q] / left[0, 0])
        values[:, q:] -= error[:, None] * left[0]
        left = left[1:, 1:] - left[1:, :1] @ left[:1, 1:] / left[0, 0]
    return values * keep


def test_as_in_the_paper_by_eliminating_columns() -> None:
    weight, gram, scores = correlated()
    damped = gram.matrix + 0.1 * gram.matrix.diagonal().mean() * torch.eye(16)
    keep, values = Sparsegpt(damping=0.1)(weight, gram, scores, 16, 7)
    expected = by_elimination(weight, damped, 7)
    assert torch.equal(keep, expected != 0)
    torch.testing.assert_close(values, expected.float(), rtol=1e-3, atol=1e-4)


def test_two_columns_by_hand() -> None:
    gram = Gram(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
    keep, values = Sparsegpt(damping=0.0)(torch.tensor([[1.0, 3.0]]), gram, torch.ones(1, 2), 2, 1)
    assert keep.tolist() == [[False, True]]
    torch.testing.assert_close(values, torch.tensor([[0.0, 3.5]]))  # the second makes up for 1 by 1 * 1 / 2


def test_tiles_only_put_off_what_is_to_the_right() -> None:
    weight, gram, scores = correlated(inputs=24)
    keep, values = Sparsegpt(columns=4)(weight, gram, scores, 4, 2)
    for columns in (8, 12, 128):
        other, same = Sparsegpt(columns=columns)(weight, Gram(gram.matrix), scores, 4, 2)
        assert torch.equal(keep, other)
        torch.testing.assert_close(values, same, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("block", "kept"), [(16, 5), (80, 33)])
def test_tiles_share_what_a_block_keeps(block: int, kept: int) -> None:
    weight, gram, scores = correlated()
    keep, _ = Sparsegpt(columns=6)(weight, gram, scores, block, kept)
    assert keep.reshape(-1, block).sum(dim=1).tolist() == [kept] * (80 // block)
    tiles = torch.stack([tile.sum() / tile.numel() for tile in keep.split(6, dim=1)])
    assert (tiles - kept / block).abs().max() < 1 / 4


def test_inputs_with_nothing_in_common_leave_the_largest_as_they_are() -> None:
    weight = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    keep, values = Sparsegpt()(weight, Gram(torch.eye(8)), weight, 8, 3)
    assert torch.equal(keep, support(weight.abs(), 8, 3))
    assert torch.equal(values, weight * keep)


def test_what_is_gone_leaves_room_elsewhere() -> None:
    weight, gram, scores = correlated()
    scores[:, :12] = -torch.inf
    weight[:, :12] = 0
    keep, _ = Sparsegpt(columns=4)(weight, gram, scores, 16, 4)
    assert keep[:, 12:].all()
    assert not keep[:, :12].any()


def test_one_factor_for_weights_that_multiply_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, gram, scores = correlated()
    Sparsegpt()(weight, gram, scores, 4, 2)
    monkeypatch.setattr(Sparsegpt, "_root", lambda *_: pytest.fail("factored again"))
    Sparsegpt()(2 * weight, gram, scores, 16, 8)


@pytest.mark.parametrize("fields", [{"damping": -0.1}, {"damping": float("nan")}, {"columns": 0}])
def test_fields_outside_their_range(fields: dict[str, float]) -> None:
    with pytest.raises(SecateursError, match=f"sparsegpt: {next(iter(fields))} must be at least"):
        Sparsegpt(**fields)  # type: ignore[arg-type]
