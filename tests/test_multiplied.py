import pytest
import torch

from secateurs.multiplied import Multiplied, Stacked
from secateurs.twins import Drift


def test_moments_by_hand() -> None:
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    for gram in (False, True):
        seen = Multiplied(gram)
        seen.add(x)
        seen.add(x[:, :1])
        assert seen.tokens == 3 and seen.parts == (seen,)
        torch.testing.assert_close(seen.norm, torch.tensor([11.0, 24.0]).sqrt())
    torch.testing.assert_close(seen.gram.matrix, torch.tensor([[11.0, 16.0], [16.0, 24.0]]))
    torch.testing.assert_close(seen.norm, torch.tensor([11.0, 24.0]).sqrt())
    assert seen.gram is seen.gram


def test_gram_matrix_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateurs.moments.TILE", 4)
    x = torch.randn(7, 10)
    seen = Multiplied(True)
    seen.add(x)
    torch.testing.assert_close(seen.gram.matrix, x.T @ x)


@pytest.mark.parametrize("gram", [False, True])
def test_features_in_another_order(gram: bool) -> None:
    x, order = torch.randn(9, 4), torch.tensor([2, 0, 3, 1])
    seen, wanted = Multiplied(gram), Multiplied(gram)
    seen.add(x)
    seen.drift, wanted.drift = Drift(), Drift()
    seen.drift.add(x, 2 * x)
    seen.drift.add_stream("w", x, x, 3 * x)
    seen.reorder_(order)
    wanted.add(x[:, order])
    wanted.drift.add(x[:, order], 2 * x[:, order])
    wanted.drift.add_stream("w", x[:, order], x, 3 * x)
    torch.testing.assert_close(seen.norm, wanted.norm)
    assert seen.order is not None and seen.order.tolist() == order.tolist()
    if gram:
        torch.testing.assert_close(seen.gram.matrix, wanted.gram.matrix)
        weight = torch.randn(4, 4)
        torch.testing.assert_close(seen.aim("w", weight), wanted.aim("w", weight))


@pytest.mark.parametrize("gram", [False, True])
def test_each_matrix_of_a_stack_has_its_own_tokens(gram: bool) -> None:
    seen = Stacked(gram, 3)
    seen.add(torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 1.0]]), torch.tensor([2, 2, 3]))
    seen.add(torch.tensor([[0.0, 2.0]]), torch.tensor([0, 0, 1]))
    assert [one.tokens for one in seen.parts] == [2, 0, 2]
    torch.testing.assert_close(seen.parts[0].norm, torch.tensor([5.0, 0.0]))
    torch.testing.assert_close(seen.parts[2].norm, torch.tensor([0.0, 5**0.5]))
    even = (25 / 2 + 5 / 2) / 2  # of the squares of both, over experts and over features
    torch.testing.assert_close(seen.parts[1].norm, torch.full((2,), even**0.5))
    if gram:
        torch.testing.assert_close(seen.parts[1].gram.matrix, even * torch.eye(2))
