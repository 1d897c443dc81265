"""Stacks of matrices tell what they are multiplied by, and are otherwise what they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateurs.stacks import rows_of, watched

ENDS = torch.tensor([2, 2, 5], dtype=torch.int32)


class Stack(nn.Module):
    def __init__(self, product: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w, self.product = nn.Parameter(torch.randn(3, 4, 8), requires_grad=False), product

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.w)


def grouped(x: Tensor, w: Tensor) -> Tensor:
    return F.grouped_mm(x, w.transpose(1, 2), offs=ENDS)


def batched(x: Tensor, w: Tensor) -> Tensor:
    return x @ w.mT


def on_the_left(x: Tensor, w: Tensor) -> Tensor:
    return w @ x.mT


def by_letters(x: Tensor, w: Tensor) -> Tensor:
    return torch.einsum("e t i, e o i -> t e o", x, w)


def of_the_same_tokens(x: Tensor, w: Tensor) -> Tensor:
    return x @ w.mT


def summed_over_experts(x: Tensor, w: Tensor) -> Tensor:
    return torch.einsum("eti,eoi->to", x, w)


def turned_to_other_matrices(x: Tensor, w: Tensor) -> Tensor:
    return torch.bmm(x[:, :, :3].transpose(0, 1), w.transpose(0, 1)[:3])


def looped(x: Tensor, w: Tensor) -> Tensor:
    return torch.cat([F.linear(rows, one) for rows, one in zip(rows_of(x, ENDS), w, strict=True)])


def test_rows_of_each_matrix() -> None:
    x = torch.arange(10.0).view(5, 2) + 1
    assert [rows.tolist() for rows in rows_of(x, ENDS)] == [x[:2].tolist(), [], x[2:].tolist()]
    padded = torch.stack([x[:2], torch.zeros(2, 2), x[2:4]])
    assert [len(rows) for rows in rows_of(padded, None)] == [2, 0, 2]


@pytest.mark.parametrize(("product", "shape"), [(grouped, (5, 8)), (batched, (3, 5, 8))])
def test_a_product_is_told_before_it_is_made_and_may_be_of_another_stack(
    product: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    network, x = Stack(product), torch.randn(shape)
    parameter, before, met = network.w, network(x), []

    def tell(name: str, given: Tensor, ends: Tensor | None) -> Tensor | None:
        met.append((name, given is x, ends is ENDS))
        return None if len(met) == 1 else 2 * parameter.detach()

    with watched({"w": network}, tell):
        assert network.get_parameter("w").shape == (3, 4, 8)
        torch.testing.assert_close(network(x), before, rtol=0, atol=0)
        torch.testing.assert_close(network(x), 2 * before)
        network.w.detach()[0].mul_(0)
    assert met == [("w", True, product is grouped)] * 2
    assert network.w is parameter and not parameter[0].any() and parameter[1].all()


@pytest.mark.parametrize("product", [batched, on_the_left, by_letters, of_the_same_tokens])
def test_tokens_are_told_matrix_by_matrix_with_features_last(product: Callable[[Tensor, Tensor], Tensor]) -> None:
    network, met = Stack(product), []
    x = torch.randn((5, 8) if product is of_the_same_tokens else (3, 5, 8))
    with watched({"w": network}, lambda name, given, ends: met.append(rows_of(given, ends))):
        network(x)
    for rows, wanted in zip(met[0], x.expand(3, 5, 8), strict=True):
        assert torch.equal(rows, wanted)


@pytest.mark.parametrize(
    ("product", "shape"), [(looped, (5, 8)), (summed_over_experts, (3, 5, 8)), (turned_to_other_matrices, (5, 3, 8))]
)
def test_what_is_no_product_of_the_whole_is_not_told(
    product: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    network, x = Stack(product), torch.randn(shape)
    before = network(x)
    with watched({"w": network}, lambda *_: pytest.fail("told")):
        torch.testing.assert_close(network(x), before, rtol=0, atol=0)
        assert float((network.w * 2).sum()) == float(network.w.sum() + network.w.sum())
