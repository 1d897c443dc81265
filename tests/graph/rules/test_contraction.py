from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from graph.rules.tracing import Seen, free, reason, see, traced


def heads(x: Tensor, n: int) -> Tensor:
    return x.view(*x.shape[:2], n, -1).transpose(1, 2)


def qkv(kv: int) -> dict[str, nn.Module]:
    return {"q": nn.Linear(6, 12), "k": nn.Linear(6, 3 * kv), "v": nn.Linear(6, 3 * kv), "o": nn.Linear(12, 5)}


TOKENS = torch.randn(2, 7, 6)


@pytest.mark.parametrize("fused", [True, False])
def test_attention_has_heads_and_two_sizes_of_a_head(fused: bool) -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        q, k, v = heads(self.q(x), 4), heads(self.k(x), 4), heads(self.v(x), 4)
        out = (
            F.scaled_dot_product_attention(q, k, v, scale=0.5)
            if fused
            else torch.softmax(q @ k.transpose(2, 3) / 2, -1) @ v
        )
        return self.o(out.transpose(1, 2).flatten(2))

    graph = traced(forward, TOKENS, **qkv(4))
    roles = sorted((dim.role, dim.size) for dim in graph.dims.values() if dim.frozen is None)
    assert roles == [("head_dim", 3), ("head_dim", 3), ("heads", 4)]
    assert graph.macs() == 2 * 7 * 6 * (12 + 12 + 12) + 2 * 4 * 7 * 7 * 3 * 2 + 2 * 7 * 12 * 5


def test_a_scale_that_follows_the_size_of_a_head_flags_it() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        out = F.scaled_dot_product_attention(heads(self.q(x), 4), heads(self.k(x), 4), heads(self.v(x), 4))
        return self.o(out.transpose(1, 2).flatten(2))

    graph = traced(forward, TOKENS, **qkv(4))
    assert sorted(free(graph).values()) == [3, 4], "the size of a value head is free"
    assert any("scale" in (dim.flagged or "") and dim.frozen is None for dim in graph.dims.values())


def test_grouped_queries_in_one_operator() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        q, k, v = heads(self.q(x), 4), heads(self.k(x), 2), heads(self.v(x), 2)
        out = F.scaled_dot_product_attention(q, k, v, scale=0.5, enable_gqa=True)
        return self.o(out.transpose(1, 2).flatten(2))

    graph = traced(forward, TOKENS, **qkv(2))
    roles = {dim.role: dim.size for dim in graph.dims.values() if dim.frozen is None}
    assert (roles["kv_heads"], roles["query_group"]) == (2, 2)


@pytest.mark.parametrize(
    ("conv", "after", "sizes"),
    [
        (nn.Conv2d(8, 6, 3), 6, [6, 8]),
        (nn.Conv2d(8, 8, 3, groups=8), 8, [8]),
        (nn.Conv2d(8, 12, 3, groups=4), 12, [2, 3, 4]),
        (nn.ConvTranspose2d(8, 6, 2, 2), 6, [6, 8]),
        (nn.Conv2d(8, 6, 3, stride=2, dilation=2), 6, [6, 8]),
    ],
)
def test_convolutions(conv: nn.Module, after: int, sizes: list[int]) -> None:
    layers = {"a": nn.Conv2d(2, 8, 1), "c": conv, "b": nn.Conv2d(after, 2, 1)}
    graph = traced(lambda self, x: self.b(torch.relu(self.c(torch.relu(self.a(x))))), torch.randn(2, 2, 9, 9), **layers)
    assert sorted(free(graph).values()) == sizes
    assert all(dim.role in {"channels", "channel_groups"} for dim in graph.dims.values() if dim.frozen is None)


@pytest.mark.parametrize("n", [1, 3])
def test_convolutions_of_any_number_of_dims(n: int) -> None:
    conv = {1: nn.Conv1d, 3: nn.Conv3d}[n]
    layers = {"a": conv(2, 5, 2), "b": conv(5, 2, 1)}
    graph = traced(lambda self, x: self.b(self.a(x)), torch.randn(2, 2, *(4,) * n), **layers)
    assert free(graph) == {"a.channels": 5}
    assert graph.macs() == 2 * 3**n * 5 * 2 * 2**n + 2 * 3**n * 2 * 5


def test_kernel_positions_and_inputs_and_outputs_are_frozen() -> None:
    graph = traced(lambda self, x: self.a(x), torch.randn(2, 2, 5, 5), a=nn.Conv2d(2, 3, 3))
    assert not free(graph)
    assert reason(graph, "a.input") == "an input of the model"
    assert reason(graph, "a.output") == "an output of the model"
    assert reason(graph, "a.weight[2]") == "a kernel position"


def test_weights_name_their_outputs_and_inputs() -> None:
    layers = {"a": nn.Conv2d(2, 3, 3), "b": nn.Linear(3, 4)}
    graph = traced(lambda self, x: self.b(self.a(x).amax((2, 3))), torch.randn(2, 2, 5, 5), **layers)
    found = {weight.name: (weight.outputs, weight.inputs) for weight in graph.weights}
    assert found == {"a.weight": ((0,), (1, 2, 3)), "b.weight": ((0,), (1,))}


# ------------------------------------------------------------------------------------------ what a sum is taken over


def test_a_product_of_two_that_are_not_zero_freezes_what_it_sums_over() -> None:
    it = see(
        lambda m, x: m.b(torch.cos(m.a(x)) @ torch.cos(m.c(x)).T),
        torch.randn(3, 4),
        a=linear(6),
        c=linear(6),
        b=last(3),
    )
    assert "aten.mm sums over it where its entries are not zero" in it.reason("a.weight")


def test_one_of_two_that_is_zero_is_enough() -> None:
    it = see(lambda m, x: m.b(m.a(x) @ torch.cos(m.c(x)).T), torch.randn(3, 4), a=linear(6), c=linear(6), b=last(3))
    assert it.same(("a.weight", 0), ("c.weight", 0))
    assert it.proven()


@pytest.mark.parametrize("bias", [True, False])
def test_a_bias_fills_what_it_does_not_carry(bias: bool) -> None:
    """A layer over the last axis, and a sum over another: its bias is no zero where that one was removed."""
    it = see(
        lambda m, x: m.b(m.c(m.a(x).view(x.shape[0], -1, 5)).sum(1)),
        torch.randn(3, 4),
        a=linear(30),
        c=nn.Linear(5, 5, bias=bias),
        b=last(5),
    )
    assert [bool(frozen) for _, frozen in it.axis("a.weight")] == [bias, False]


@pytest.mark.parametrize(("bias", "before"), [(True, torch.relu), (False, torch.cos)])
def test_a_convolution_does_not_make_zeros_of_a_batch(bias: bool, before: Callable[[Tensor], Tensor]) -> None:
    it = see(
        lambda m, x: m.b(m.c(before(m.a(x)).view(-1, 3, 5)).view(x.shape[0], -1, 2, 5).sum((1, 2))),
        torch.randn(3, 4),
        a=linear(30),
        c=nn.Conv1d(3, 2, 1, bias=bias),
        b=last(5),
    )
    assert "aten.sum sums over it where its entries are not zero" in str(it.axis("a.weight")[0])


def test_a_dim_that_meets_itself_along_one_axis_is_frozen() -> None:
    it = see(
        lambda m, x: m.b((m.a(x)[..., None] * m.a(x)[:, None]).flatten(1)), torch.randn(3, 4), a=linear(3), b=last(9)
    )
    assert it.reason("a.weight") == "it multiplies itself along one axis"


# ----------------------------------------------------------------------------------------------------- convolutions


def test_features_that_become_pixels_are_frozen() -> None:
    it = see(
        lambda m, x: m.b(m.c(m.a(x).view(x.shape[0], -1, 6, 4)).mean((2, 3))),
        torch.randn(3, 4),
        a=linear(48),
        c=nn.Conv2d(2, 3, 3),
        b=last(3),
    )
    assert it.axis("a.weight") == [(2, None), (6, "a spatial position"), (4, "a spatial position")]
    assert it.free("c.weight") == [3]
    assert it.proven()


@pytest.mark.parametrize(("groups", "outer", "inside"), [(2, 2, 4), (4, 4, 2), (8, 8, 1)])
def test_a_grouped_convolution_shares_its_groups(groups: int, outer: int, inside: int) -> None:
    it = see(
        lambda m, x: m.b(torch.relu(m.c(m.a(x)))),
        torch.randn(2, 2, 5),
        a=nn.Conv1d(2, 8, 1),
        c=nn.Conv1d(8, 16, 3, groups=groups),
        b=nn.Conv1d(16, 2, 1),
    )
    assert it.free("a.weight") == [size for size in (outer, inside) if size > 1]
    assert it.free("c.weight")[0] == outer
    assert it.free("c.weight", 1) == ([inside] if inside > 1 else [])
    assert it.proven()


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_transposed_convolution_shares_its_groups(groups: int) -> None:
    it = see(
        lambda m, x: m.b(torch.relu(m.c(m.a(x)))),
        torch.randn(2, 2, 5),
        a=nn.Conv1d(2, 6, 1),
        c=nn.ConvTranspose1d(6, 12, 3, groups=groups),
        b=nn.Conv1d(12, 2, 1),
    )
    weight = next(weight for weight in it.graph.weights if weight.name == "c.weight")
    assert (weight.outputs, weight.inputs) == ((1,), (0, 2))
    assert it.same(("a.weight", 0), ("c.weight", 0))
    assert it.proven()


def test_groups_that_cut_across_a_concatenation_freeze_it() -> None:
    it = see(
        lambda m, x: m.b(m.c(torch.cat([m.a(x), m.d(x)], 1))),
        torch.randn(2, 2, 5),
        a=nn.Conv1d(2, 3, 1),
        d=nn.Conv1d(2, 5, 1),
        c=nn.Conv1d(8, 4, 1, groups=2),
        b=nn.Conv1d(4, 2, 1),
    )
    assert it.reason("a.weight") == it.reason("d.weight") == "aten.convolution groups cut across it"


def test_query_groups_that_cut_across_a_concatenation_freeze_it() -> None:
    def function(m: nn.Module, x: Tensor) -> Tensor:
        q, k, v = heads(m.q(x), 4), heads(m.k(x), 2), heads(m.v(x), 2)
        q = torch.cat([q[:, :1], q[:, 1:]], 1)
        out = F.scaled_dot_product_attention(q, k, v, scale=0.5, enable_gqa=True)
        return m.o(out.transpose(1, 2).flatten(2))

    it = see(function, TOKENS, **qkv(2))
    assert any("groups cut across it" in str(frozen) for _, frozen in it.axis("k.weight"))


# ------------------------------------------------------------------------------------------------------------ costs


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_multiply_accumulates_are_those_of_hand_arithmetic(batch: int, n: int, m: int, kernel: int) -> None:
    length = 6
    it = see(
        lambda net, x: net.d(net.c(net.a(x)).transpose(1, 2)) @ x[:, :1, 0].unsqueeze(2).expand(-1, 2, 1),
        torch.randn(batch, 2, length),
        a=nn.Conv1d(2, n, kernel),
        c=nn.ConvTranspose1d(n, m, kernel),
        d=nn.Linear(m, 2, bias=False),
    )
    inner = length - kernel + 1
    assert it.graph.macs() == batch * (inner * 2 * n * kernel + inner * n * m * kernel + length * m * 2 + length * 2)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_multiply_accumulates_follow_the_sizes(groups: int) -> None:
    def build(n: int, m: int) -> Seen:
        return see(
            lambda net, x: net.b(net.c(net.a(x))),
            torch.randn(2, 2, 9),
            a=nn.Conv1d(2, groups * n, 1),
            c=nn.Conv1d(groups * n, groups * m, 3, groups=groups),
            b=nn.Conv1d(groups * m, 2, 1),
        )

    it = build(6, 5)
    sizes = {dim.name: {6: 4, 5: 3}[dim.size] for dim in it.graph.dims.values() if dim.size in (6, 5)}
    assert it.graph.macs(sizes) == build(4, 3).graph.macs()
    assert it.graph.parameters(sizes) == build(4, 3).graph.parameters()


def linear(n: int) -> nn.Linear:
    return nn.Linear(4, n)


def last(n: int) -> nn.Linear:
    return nn.Linear(n, 2)


def test_experts_in_one_tensor_share_their_hidden_units_which_go_by_eights() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        offsets = torch.tensor([1, 4, 6], dtype=torch.int32)
        gate, up = F.grouped_mm(x, self.up.mT, offs=offsets).chunk(2, dim=-1)
        return self.b(F.grouped_mm(gate.relu() * up, self.down.mT, offs=offsets))

    layers = {"up": nn.Parameter(torch.empty(3, 48, 8)), "down": nn.Parameter(torch.empty(3, 16, 24))}
    it = see(forward, torch.randn(6, 8), b=nn.Linear(16, 2), **layers)
    assert [(dim.size, dim.multiple) for dim in it.graph.dims.values() if dim.frozen is None] == [(24, 8), (16, 1)]
    assert it.role("down", 2) == ["neurons"]
    assert it.reason("down") == "data decide which of it works"
    assert it.graph.macs() == 6 * 8 * 48 + 6 * 24 * 16 + 6 * 16 * 2
    assert [(w.name, w.outputs, w.inputs) for w in it.graph.weights[:2]] == [
        ("up", (0, 1), (2,)),
        ("down", (0, 1), (2,)),
    ]
    assert it.proven()


def test_experts_that_work_on_stretches_of_columns_are_frozen() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        offsets = torch.tensor([8, 16], dtype=torch.int32)
        return self.b(F.grouped_mm(self.a(x), self.a(x).mT.contiguous(), offs=offsets)).sum(0)

    it = see(forward, torch.randn(8, 4), a=nn.Linear(4, 16), b=nn.Linear(8, 2))
    assert "layout" in it.reason("a.weight")


@pytest.mark.parametrize("filled", [False, True])
def test_distances_do_not_see_what_is_zero_in_both(filled: bool) -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        h = m.a(x).exp() if filled else m.a(x)
        return torch.cdist(h, m.codes)

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), codes=nn.Parameter(torch.randn(5, 6)))
    assert it.same(("a.weight", 0), ("codes", 1))
    assert it.free("codes", 1) == ([] if filled else [6])
    assert it.proven() or filled


def test_a_bilinear_layer_shrinks_on_all_three_sides() -> None:
    layers = {"i": nn.Linear(4, 6), "j": nn.Linear(4, 5), "b": nn.Bilinear(6, 5, 7), "o": nn.Linear(7, 2)}
    it = see(lambda m, x, y: m.o(m.b(torch.sigmoid(m.i(x)), m.j(y))), torch.randn(3, 4), torch.randn(3, 4), **layers)
    assert [it.free("b.weight", axis) for axis in range(3)] == [[7], [6], [5]]
    assert len(it.proven()) == 3
    (weight,) = (w for w in it.graph.weights if w.name == "b.weight")
    assert (weight.outputs, weight.inputs) == ((0,), (1, 2))
    assert it.graph.macs() == 3 * (4 * 6 + 4 * 5 + 7 * 6 * 5 + 7 * 2)


def test_distances_of_every_batch_to_one_table() -> None:
    it = see(
        lambda m, x: torch.cdist(m.a(x), m.codes),
        torch.randn(2, 3, 4),
        a=nn.Linear(4, 6),
        codes=nn.Parameter(torch.randn(5, 6)),
    )
    assert it.free("codes", 1) == [6] and it.reason("codes") == "an output of the model"
    assert it.proven()


def test_spectral_norm_divides_by_what_zeros_do_not_change() -> None:
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6))
    it = see(lambda m, x: m.b(torch.relu(m.a(x))), torch.randn(3, 4), a=layer, b=nn.Linear(6, 2))
    assert it.free("b.weight", 1) == [6]
    assert it.proven()


@pytest.mark.parametrize("unit", [True, False])
def test_triangular_systems_side_by_side(unit: bool) -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        k, v = heads(self.k(x), 4), heads(self.v(x), 4)
        system = (k @ k.mT).tril(-1) + (torch.eye(x.shape[1]) if self.plus else 0)
        solved = torch.linalg.solve_triangular(system, v, upper=False, unitriangular=unit)
        return self.o(solved.transpose(1, 2).flatten(2))

    it = see(forward, TOKENS, k=nn.Linear(6, 20), v=nn.Linear(6, 12), o=nn.Linear(12, 5), plus=int(unit))
    assert it.free("o.weight", 1) == ([4, 3] if unit else [3])
    assert not it.graph.unknown
    assert ("undefined" in str(it.axis("k.weight"))) != unit


STACKS: dict[str, tuple[tuple[int, ...], Callable[[nn.Module, Tensor], Tensor], tuple[int, ...], tuple[int, ...]]] = {
    "bmm": ((3, 4, 5), lambda m, x: torch.bmm(x, m.w), (0, 2), (1,)),
    "turned": ((3, 5, 4), lambda m, x: x @ m.w.mT, (0, 1), (2,)),
    "on the left": ((3, 5, 4), lambda m, x: (m.w @ x.mT).mT, (0, 1), (2,)),
    "with a summand": ((3, 4, 5), lambda m, x: torch.baddbmm(m.bias[:, None], x, m.w), (0, 2), (1,)),
    "by letters": ((3, 4, 5), lambda m, x: torch.einsum("eti,eio->eto", x, m.w), (0, 2), (1,)),
    "inputs first": ((4, 3, 5), lambda m, x: torch.einsum("ieo,eti->eto", m.w, x), (1, 2), (0,)),
    "one by one": ((3, 5, 4), lambda m, x: torch.stack([x[i] @ m.w[i].T for i in range(3)]), (0, 1), (2,)),
    "apart": ((3, 4, 5), lambda m, x: torch.stack([x[i] @ w for i, w in enumerate(m.w.unbind())]), (0, 2), (1,)),
    "rows cut": ((15, 4), lambda m, x: torch.bmm(x, m.w.unflatten(0, (3, -1)).mT), (0,), (1,)),
    "columns cut": ((12, 5), lambda m, x: torch.bmm(x, m.w.unflatten(0, (3, -1))), (), ()),
    "one matrix": ((1, 5, 4), lambda m, x: x @ m.w.squeeze(0).T, (1,), (2, 0)),
}


@pytest.mark.parametrize("name", STACKS)
def test_matrices_side_by_side_are_weights(name: str) -> None:
    shape, forward, outputs, inputs = STACKS[name]
    layers = {"a": nn.Linear(6, 4), "b": nn.Linear(5, 2), "w": nn.Parameter(torch.empty(shape))}
    bias = nn.Parameter(torch.empty(3, 5))
    it = see(lambda m, x: m.b(forward(m, m.a(x))), torch.randn(3, 7, 6), **layers, bias=bias)
    found = {weight.name: (weight.outputs, weight.inputs) for weight in it.graph.weights}
    assert found.get("w", ((), ())) == (outputs, inputs)
    assert sorted(it.graph.dims[group].size for group in it.proven()) == [4, 5] or "cut" in name


@pytest.mark.parametrize("expand", [lambda q, x: q, lambda q, x: q.expand(len(x), -1, -1), lambda q, x: q[0]])
def test_one_matrix_is_a_weight_in_every_batch(expand: Callable[[Tensor, Tensor], Tensor]) -> None:
    layers = {"a": nn.Linear(4, 4), "q": nn.Parameter(torch.empty(1, 3, 4))}
    found = []
    for batch in (1, 2):
        graph = traced(lambda self, x: expand(self.q, x) @ self.a(x).mT, torch.randn(batch, 5, 4), **layers)
        found.append([(weight.name, weight.inputs[0]) for weight in graph.weights])
    assert found[0] == found[1]
