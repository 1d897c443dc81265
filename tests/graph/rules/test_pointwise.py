from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from graph.rules.tracing import Seen, see

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


def summed(function: Callable[[Tensor], Tensor]) -> Seen:
    """A hidden layer of six, a function of it, and a sum over it: free only where zeros stay zeros."""
    return see(lambda m, x: m.b(function(m.a(x)).sum(-1, keepdim=True)), X, a=nn.Linear(4, 6), b=nn.Linear(1, 2))


# ---------------------------------------------------------------------------------------------- what is unified


def test_operands_are_one_dim() -> None:
    it = see(
        lambda m, x: m.c(m.a(x) + m.b(x)) + m.d(m.b(x)),
        X,
        a=nn.Linear(4, 6),
        b=nn.Linear(4, 6),
        c=nn.Linear(6, 2),
        d=nn.Linear(6, 2),
    )
    assert it.same(("a.weight", 0), ("b.weight", 0), ("c.weight", 1), ("d.weight", 1))
    assert it.proven()


@pytest.mark.parametrize("shape", [(6,), (1, 6), (1, 1, 6)])
def test_a_vector_that_broadcasts_carries_the_dim(shape: tuple[int, ...]) -> None:
    it = see(
        lambda m, x: m.b((m.a(x) * m.v).flatten(0, -2)),
        X,
        a=nn.Linear(4, 6),
        b=nn.Linear(6, 2),
        v=nn.Parameter(torch.ones(shape)),
    )
    assert it.same(("a.weight", 0), ("v", len(shape) - 1), ("b.weight", 1))
    assert it.proven()


def test_a_broadcast_dim_is_not_unified() -> None:
    """Every row with every column: two dims of the same size stay two."""
    it = see(
        lambda m, x: m.c((m.a(x)[..., None] * m.b(x)[:, None]).flatten(1)),
        X,
        a=nn.Linear(4, 5),
        b=nn.Linear(4, 5),
        c=nn.Linear(25, 2),
    )
    assert it.free("a.weight") == it.free("b.weight") == [5]
    assert it.free("c.weight", 1) == [5, 5]
    assert it.proven()


def test_operands_in_two_arrangements_freeze() -> None:
    it = see(
        lambda m, x: m.b(m.a(x).view(-1, 2, 3).flatten(1) + m.a(x).view(-1, 3, 2).flatten(1)),
        X,
        a=nn.Linear(4, 6),
        b=nn.Linear(6, 2),
    )
    assert all(frozen for _, frozen in it.axis("a.weight"))


def test_the_output_of_a_copy_is_what_was_copied() -> None:
    it = see(lambda m, x: m.b(m.a(x).clone().detach().double().float()), X, a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert it.same(("a.weight", 0), ("b.weight", 1))
    assert it.proven()


def test_a_weight_that_is_cast_is_still_the_weight() -> None:
    it = see(lambda m, x: F.linear(x.double(), m.a.weight.double()).float(), X, a=nn.Linear(4, 6, bias=False))
    assert [weight.name for weight in it.graph.weights] == ["a.weight"]


@pytest.mark.parametrize("values", [lambda: torch.tensor([1.0, 2, 3]), lambda: torch.arange(3)])
def test_values_that_differ_by_position_freeze_what_they_meet(values: Callable[[], Tensor]) -> None:
    it = see(lambda m, x: m.b(m.a(x) * values()), X, a=nn.Linear(4, 3), b=nn.Linear(3, 2))
    assert it.reason("a.weight") == "its values are made in the forward pass"


def test_channels_of_a_learnt_slope() -> None:
    it = see(lambda m, x: m.b(m.f(m.a(x))), X, a=nn.Linear(4, 6), b=nn.Linear(6, 2), f=nn.PReLU(6))
    assert it.same(("a.weight", 0), ("f.weight", 0))
    assert it.proven()


# ------------------------------------------------------------------------------------------- what becomes of zero

KEEP_ZERO: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "elu": F.elu,
    "leaky": F.leaky_relu,
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,
    "expm1": torch.expm1,
    "log1p of square": lambda x: torch.log1p(x * x),
    "square root": lambda x: x.abs().sqrt(),
    "power": lambda x: x**3,
    "round": torch.round,
    "scaled": lambda x: -x / 3,
    "by integers": lambda x: (5 * x).long(),
    "positive": lambda x: x > 0,
    "gated": lambda x: torch.sigmoid(x) * x,
    "clamped": lambda x: x.clamp(-0.1, 0.1),
    "masked": lambda x: x.masked_fill(x > 0.1, 0.0),
    "where": lambda x: torch.where(x > 0, x, 2 * x),
    "of two": lambda x: torch.maximum(x, 2 * x),
    "interpolated": lambda x: torch.lerp(x, 2 * x, 0.3),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "zeros": lambda x: torch.zeros_like(x) + x,
    "new zeros": lambda x: torch.where(x.new_zeros(x.shape) > 0, 0.0, x),
    "written over": lambda x: torch.ones_like(x).copy_(x),
}

LOSE_ZERO: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "cos": torch.cos,
    "softplus": F.softplus,
    "hardsigmoid": F.hardsigmoid,
    "shifted": lambda x: x + 0.1,
    "from one": lambda x: 1 - x,
    "not negative": lambda x: x >= 0,
    "clamped": lambda x: x.clamp(min=0.1),
    "masked": lambda x: x.masked_fill(x <= 0, 0.5),
    "where": lambda x: torch.where(x > 0, x, 1.0),
    "where another says so": lambda x: torch.where(x[:, :1] > 0, x, 1.0),
    "of two": lambda x: torch.maximum(x, torch.cos(x)),
    "difference of two that lost it": lambda x: torch.sigmoid(x) - torch.exp(x),
    "equality of two that lost it": lambda x: torch.sigmoid(x) != torch.exp(x),
    "power of two": lambda x: 2**x,
    "ones": torch.ones_like,
    "full": lambda x: torch.full_like(x, 0.5) + x,
    "filled": lambda x: x.clone().fill_(0.5),
    "written over": lambda x: torch.zeros_like(x).copy_(torch.cos(x)),
    "in place": lambda x: x.clone().sigmoid_(),
}


@pytest.mark.parametrize("name", KEEP_ZERO)
def test_zeros_that_stay_zeros_are_free(name: str) -> None:
    it = summed(lambda x: KEEP_ZERO[name](x).float())
    assert it.free("a.weight") == [6]
    assert it.proven()


@pytest.mark.parametrize("name", LOSE_ZERO)
def test_zeros_that_become_something_freeze_a_sum(name: str) -> None:
    it = summed(lambda x: LOSE_ZERO[name](x).float())
    assert all(frozen == "aten.sum sums over it where its entries are not zero" for _, frozen in it.axis("a.weight"))


@pytest.mark.parametrize("name", LOSE_ZERO)
def test_a_linear_layer_does_not_mind(name: str) -> None:
    """Its own removed columns are zero, whatever they meet."""
    it = see(lambda m, x: m.b(LOSE_ZERO[name](m.a(x)).float()), X, a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    if name == "where another says so":
        return  # a literal slice, which nothing can repair
    assert sum(it.free("a.weight")) == 6
    assert it.proven()


UNARY = [torch.relu, torch.tanh, torch.cos, torch.sigmoid, torch.square, torch.sign, torch.neg, lambda x: x + 0.5]
BINARY = [
    torch.add,
    torch.sub,
    torch.mul,
    torch.maximum,
    torch.minimum,
    lambda x, y: x / (1 + y * y),
    lambda x, y: torch.where(x > 0, x, y),
    lambda x, y: torch.where(y > x, x, 0.5),
    lambda x, y: x.masked_fill(y > 0, 0.3),
    lambda x, y: (x > y).float(),
    torch.hypot,
]

Expression = Callable[[Tensor, Tensor], Tensor]


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> Expression:
    """Any composition of these operators over two tensors."""
    kind = draw(st.sampled_from(["first", "second", *(["unary", "binary"] * 2 if depth else [])]))
    if kind == "unary":
        operator, inner = draw(st.sampled_from(UNARY)), draw(expressions(depth - 1))
        return lambda x, y: operator(inner(x, y))
    if kind == "binary":
        both, left, right = draw(st.sampled_from(BINARY)), draw(expressions(depth - 1)), draw(expressions(depth - 1))
        return lambda x, y: both(left(x, y), right(x, y))
    return (lambda x, y: x) if kind == "first" else lambda x, y: y


@given(expressions())
def test_a_sum_over_any_expression_is_free_only_where_it_may_be(expression: Expression) -> None:
    """With one tensor that carries the dim, and one that broadcasts over it."""
    it = see(
        lambda m, x: m.c(expression(m.a(x), m.b(x)).sum(-1, keepdim=True)) + m.c(m.a(x).sum(-1, keepdim=True)),
        X,
        a=nn.Linear(4, 5),
        b=nn.Linear(4, 1),
        c=nn.Linear(1, 2),
    )
    it.proven()


# ---------------------------------------------------------------------------------------------- zeros undefined


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 1 / x,
        lambda x: x / x,
        lambda x: x[:, :1] / x,
        torch.rsqrt,
        torch.log,
        lambda x: x.abs().log2(),
        lambda x: x.abs() ** -0.5,
        torch.reciprocal,
    ],
)
def test_an_operator_that_zero_breaks_freezes(function: Callable[[Tensor], Tensor]) -> None:
    it = see(lambda m, x: m.b(function(m.a(x))), X, a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert all("is undefined where its entries are zero" in str(frozen) for _, frozen in it.axis("a.weight"))


def test_what_is_no_longer_zero_breaks_nothing() -> None:
    """Each head by its root mean square: the mean of zeros plus a little is no zero."""

    def function(m: nn.Module, x: Tensor) -> Tensor:
        heads = m.a(x).view(-1, m.n, 3)
        normed = heads * torch.rsqrt(heads.square().mean(-1, keepdim=True) + 1e-6)
        return m.b(normed.view(x.shape[0], -1))

    it = see(function, X, a=nn.Linear(4, 12), b=nn.Linear(12, 2), n=4)
    assert it.free("a.weight") == [4]
    assert it.proven()


def test_minus_infinity_where_a_mask_says_so_is_no_fault_of_a_zero() -> None:
    it = see(
        lambda m, x: m.b(m.a(x).masked_fill(x[:, :1] > 5, -torch.inf).relu()), X, a=nn.Linear(4, 6), b=nn.Linear(6, 2)
    )
    assert it.free("a.weight") == [6]
    assert it.proven()


@pytest.mark.parametrize("value", [0.5, torch.tensor(0.5)])
def test_a_number_where_a_mask_says_so_fills_what_the_mask_does_not_carry(value: float | Tensor) -> None:
    fill = torch.ops.aten.masked_fill.Tensor if isinstance(value, Tensor) else torch.masked_fill
    layers = {"a": nn.Linear(4, 6), "b": nn.Linear(6, 2)}
    it = see(lambda m, x: m.b(fill(m.a(x), x[:, :1] > 0, value)), X, **layers)
    assert it.graph.unknown == frozenset()
    assert it.free("a.weight") == [6]
    assert it.proven()
    it = see(lambda m, x: fill(m.a(x), x[:, :1] > 0, value).sum(1), X, **layers)
    assert "entries are not zero" in it.reason("a.weight")


# ------------------------------------------------------------------------------------------------------ in place


def test_in_place_as_out_of_place() -> None:
    def function(m: nn.Module, x: Tensor) -> Tensor:
        y = m.a(x)
        y.relu_().mul_(2)
        y += m.c(x)
        return m.b(y)

    it = see(function, X, a=nn.Linear(4, 6), c=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert it.same(("a.weight", 0), ("c.weight", 0), ("b.weight", 1))
    assert it.proven()


@pytest.mark.parametrize("written", ["base", "view", "other view"])
def test_a_write_is_seen_through_every_view(written: str) -> None:
    def function(m: nn.Module, x: Tensor) -> Tensor:
        base = m.a(x)
        view, other = base.view(x.shape[0], -1, 3), base.view(x.shape[0], -1, 3)
        {"base": base, "view": view, "other view": other}[written].sigmoid_()
        return m.b({"base": view, "view": base.view(x.shape[0], -1, 3), "other view": view}[written].sum(1))

    it = see(function, X, a=nn.Linear(4, 6), b=nn.Linear(3, 2))
    assert it.axis("a.weight") == [(2, "aten.sum sums over it where its entries are not zero"), (3, None)]


def test_a_write_into_one_position_is_seen_by_the_whole() -> None:
    def function(m: nn.Module, x: Tensor) -> Tensor:
        y = m.a(x)
        y.view(x.shape[0], -1, 3)[:, :, 0].add_(1)
        return m.b(y.sum(1, keepdim=True))

    it = see(function, X, a=nn.Linear(4, 6), b=nn.Linear(1, 2))
    assert not it.free("a.weight")


def test_numbers_turned_as_complex_ones_pass_what_is_outside_of_the_pairs() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(self.a(x).view(x.shape[0], -1, 4, 2))
        turned = pairs * torch.polar(torch.ones(4), torch.arange(4.0))
        return self.b(torch.view_as_real(turned).flatten(1))

    it = see(forward, X, a=nn.Linear(4, 24), b=nn.Linear(24, 2))
    assert it.free("a.weight") == [3]
    assert "its positions are the parts of complex numbers" in [reason for _, reason in it.axis("a.weight")]
    assert not it.graph.unknown


def test_a_gated_linear_unit_is_one_dim_in_both_halves() -> None:
    it = see(lambda m, x: m.b(F.glu(m.a(x), 1).relu()), X, a=nn.Linear(4, 12), b=nn.Linear(6, 2))
    assert it.free("a.weight") == [6]
    it = see(lambda m, x: F.glu(m.a(x), 1).sum(1), X, a=nn.Linear(4, 12))
    assert it.free("a.weight") == [6]
    assert it.proven()


def test_the_halves_of_a_gated_unit_shrink_together() -> None:
    it = see(lambda m, x: m.b(F.glu(m.a(x))), torch.randn(3, 4), a=nn.Linear(4, 12), b=nn.Linear(6, 2))
    assert it.free("b.weight", 1) == [6]
    assert it.proven()
    assert it.graph.size(it.graph.tensors["a.weight"][0], {"neurons": 5, "a.neurons": 5, "b.neurons": 5}) == 10


def test_a_gate_along_channels() -> None:
    layers = {"a": nn.Conv1d(3, 8, 3), "b": nn.Conv1d(4, 2, 1)}
    it = see(lambda m, x: m.b(F.glu(m.a(x), dim=1)), torch.randn(2, 3, 9), **layers)
    assert it.free("b.weight", 1) == [4]
    assert it.proven()
