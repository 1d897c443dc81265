from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from secateurs.criteria.leverage import Leverage
from secateurs.rows import rows_of
from secateurs.types import Facts, Gram, Group, Member, Rows, SecateursError, Side


def test_the_diagonal_of_the_ridge_projection() -> None:
    """C = diag(3, 1), its mean 2: 3 / (3 + 2) and 1 / (1 + 2)."""
    rows = Rows(torch.ones(2, 4), gram=Gram(torch.tensor([[3.0, 0.0], [0.0, 1.0]])))
    assert Leverage()([rows]).tolist() == pytest.approx([3 / 5, 1 / 3])
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(0)).double()
    matrix = x.T @ x
    ridge = 0.3 * float(matrix.diagonal().mean())
    expected = (matrix @ torch.linalg.inv(matrix + ridge * torch.eye(6))).diagonal().view(3, 2).sum(1)
    found = Leverage(ridge=0.3)([Rows(torch.ones(3, 8), gram=Gram(matrix.float()))])
    assert torch.allclose(found.double(), expected, rtol=1e-4)


def test_units_that_share_a_direction_share_its_leverage_and_what_nobody_reads_has_none() -> None:
    x = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 9.0]])
    weight = torch.tensor([[1.0], [1.0], [1.0], [0.0]])
    twin, other, alone, unread = Leverage(ridge=1e-4)([Rows(weight[:, [0]], gram=Gram(x.T @ x))]).tolist()
    assert twin == pytest.approx(0.5, abs=1e-3) and other == pytest.approx(0.5, abs=1e-3)
    assert 0 < alone < 0.5 and unread == 0


def test_what_meets_in_a_product_is_worth_the_product_of_the_norms() -> None:
    """Two units in a query of norms 3, 4 and 1, 2 and a key of norms 2 and 5: 5 x 2, and the root of 5 x 5."""
    sides = (Side("q", 0, torch.tensor([[[0, 1]], [[2, 3]]])), Side("k", 0, torch.tensor([[[0]], [[1]]])))
    group = Group("dims", 2, (Member("q", (0,), reads=False),), 2, ("dims",), meetings=(sides,))
    norms = {"q[0]": torch.tensor([3.0, 4.0, 1.0, 2.0]), "k[0]": torch.tensor([2.0, 5.0])}
    [rows] = rows_of(group, {"q": torch.ones(4, 3)}, Facts(output_norm=norms))
    assert Leverage()(rows).tolist() == pytest.approx([10.0, 5 * 5**0.5])
    read = replace(rows[0], weight=torch.ones(2, 3), gram=Gram(torch.eye(2)))
    assert Leverage()([read]).tolist() == [0.5, 0.5]  # where a weight reads them, that counts


def test_products_of_several_heads_and_layers_are_added() -> None:
    both = torch.arange(4).view(2, 2, 1)  # two heads
    group = Group(
        "dims", 2, (Member("q", (0,)),), 2, ("dims",), meetings=((Side("q", 0, both), Side("k", 0, both)),) * 2
    )
    norms = {"q[0]": torch.tensor([1.0, 2.0, 3.0, 4.0]), "k[0]": torch.tensor([5.0, 6.0, 7.0, 8.0])}
    [[rows]] = rows_of(group, {"q": torch.ones(2, 3)}, Facts(output_norm=norms))
    assert Leverage()([rows]).tolist() == [2 * (5 + 12), 2 * (21 + 32)]
    [[blind]] = rows_of(group, {"q": torch.ones(2, 3)}, Facts(output_norm={"q[0]": norms["q[0]"]}))
    assert blind.product_norm is None  # nothing is known of the other side


def test_a_ridge_of_zero_and_units_that_no_matrix_reads_are_refused() -> None:
    with pytest.raises(SecateursError, match="leverage: ridge must be above 0"):
        Leverage(ridge=0.0)
    with pytest.raises(SecateursError, match="leverage: no weight of the group reads"):
        Leverage()([Rows(torch.ones(2, 1))])
