from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graph.rules.tracing import free, hidden, reason, see, traced
from networks import groups_of
from secateurs import surgery
from secateurs.types import Plan

IMAGE = torch.randn(2, 2, 6, 6)


@pytest.mark.parametrize(
    "act",
    [
        lambda h: F.layer_norm(h, (6,)),
        lambda h: h.softmax(-1),
        lambda h: h - h.mean(-1, keepdim=True),
        lambda h: h / (h.var(-1, keepdim=True) + 1),
        lambda h: h * h.amax(-1, keepdim=True),
        lambda h: h.cumsum(-1),
        lambda h: h.sort(-1).values,
        lambda h: h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6),
    ],
)
def test_a_statistic_over_a_dim_freezes_it(act: Callable[[Tensor], Tensor]) -> None:
    assert "statistic" in reason(hidden(act), next(n for n, d in hidden(act).dims.items() if d.size == 6))


def test_a_sum_and_a_length_do_not_see_zeros() -> None:
    assert list(free(hidden(lambda h: h / (1 + h.norm(dim=-1, keepdim=True)))).values()) == [6]
    assert list(free(hidden(lambda h: h * h.sum(-1, keepdim=True))).values()) == [6]


def net(norm: nn.Module) -> dict[str, nn.Module]:
    return {"a": nn.Conv2d(2, 8, 3), "n": norm, "b": nn.Conv2d(8, 2, 3)}


def run(self: nn.Module, x: Tensor) -> Tensor:
    return self.b(torch.relu(self.n(self.a(x))))


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_carries_the_channel(affine: bool) -> None:
    graph = traced(run, IMAGE, **net(nn.BatchNorm2d(8, affine=affine)))
    assert free(graph) == {"a.channels": 8} or list(free(graph).values()) == [8]
    assert "n.running_var[0]" in graph.dims[next(iter(free(graph)))].carriers


def test_group_norm_may_lose_groups_and_instance_norm_channels() -> None:
    graph = traced(run, IMAGE, **net(nn.GroupNorm(4, 8)))
    assert [(d.role, d.size) for d in graph.dims.values() if not (d.frozen or d.flagged)] == [("channel_groups", 4)]
    graph = traced(run, IMAGE, **net(nn.GroupNorm(8, 8)))
    assert list(free(graph).values()) == [8]


@pytest.mark.parametrize(
    "pool",
    [
        lambda h: F.max_pool2d(h, 2),
        lambda h: F.avg_pool2d(h, 2),
        lambda h: F.adaptive_avg_pool2d(h, 2),
        lambda h: F.interpolate(h, scale_factor=2),
        lambda h: h.mean((2, 3), keepdim=True),
    ],
)
def test_pooling_passes_channels(pool: Callable[[Tensor], Tensor]) -> None:
    layers = {"a": nn.Conv2d(2, 8, 1), "b": nn.Conv2d(8, 2, 1)}
    assert free(traced(lambda self, x: self.b(pool(self.a(x))), IMAGE, **layers)) == {"a.channels": 8}


# ------------------------------------------------------------------------------------------ sums, norms, statistics


@pytest.mark.parametrize("order", [1, 2, 3, 0.5, torch.inf])
def test_a_norm_of_positive_order_does_not_see_zeros(order: float) -> None:
    it = see(
        lambda m, x: m.b(m.a(x) / (1 + torch.linalg.vector_norm(m.a(x), order, -1, keepdim=True))),
        torch.randn(3, 4),
        a=nn.Linear(4, 6),
        b=nn.Linear(6, 2),
    )
    assert it.free("a.weight") == [6]
    assert it.proven()


@pytest.mark.parametrize("order", [0, -1, -torch.inf])
def test_a_norm_of_another_order_does(order: float) -> None:
    graph = hidden(lambda h: h / (1 + torch.linalg.vector_norm(h, order, -1, keepdim=True)))
    assert not free(graph)


def test_a_norm_over_one_dim_leaves_the_others_alone() -> None:
    it = see(
        lambda m, x: m.b(F.normalize(m.a(x).view(x.shape[0], -1, 4, 6), dim=1).cos().sum(1).flatten(1)),
        torch.randn(3, 4),
        a=nn.Linear(4, 5 * 4 * 6),
        b=nn.Linear(24, 2),
    )
    assert [bool(frozen) for _, frozen in it.axis("a.weight")] == [True, False, False]


def test_a_norm_of_what_is_not_zero_is_frozen() -> None:
    assert not free(hidden(lambda h: h / h.exp().norm(dim=-1, keepdim=True)))


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h.mean(),
        lambda h: h.var(),
        lambda h: h.std(-1, keepdim=True),
        lambda h: h.amin(-1, keepdim=True),
        lambda h: h.max(-1, keepdim=True).values,
        lambda h: h.prod(-1, keepdim=True),
        lambda h: h.logsumexp(-1, keepdim=True),
        lambda h: (h > 0).any(-1, keepdim=True),
        lambda h: (h > 0).all(-1, keepdim=True),
        lambda h: torch.var_mean(h, -1, keepdim=True)[0],
        lambda h: h.log_softmax(-1),
        lambda h: h.cumprod(-1),
    ],
)
def test_a_statistic_names_its_operator(function: Callable[[Tensor], Tensor]) -> None:
    (why,) = {dim.frozen or dim.flagged for dim in hidden(lambda h: h * function(h)).dims.values() if dim.size == 6}
    assert why is not None and why.startswith("a statistic is taken over it (aten.")


def test_where_all_positions_are_picked_all_must_stay() -> None:
    (dim,) = [dim for dim in hidden(lambda h: h * h.topk(6, -1).values).dims.values() if dim.size == 6]
    assert (dim.frozen, dim.least) == ("all of its positions are picked (aten.topk)", 6)


def test_a_statistic_over_one_dim_leaves_the_others_alone() -> None:
    it = see(
        lambda m, x: m.b((m.a(x).view(x.shape[0], -1, 5) * m.a(x).view(x.shape[0], -1, 5).mean(1, True)).flatten(1)),
        torch.randn(3, 4),
        a=nn.Linear(4, 30),
        b=nn.Linear(30, 2),
    )
    assert [bool(frozen) for _, frozen in it.axis("a.weight")] == [True, False]


# ------------------------------------------------------------------------------------------------------------ norms

SHIFTED = [nn.BatchNorm1d(5), nn.BatchNorm1d(5, affine=False), nn.GroupNorm(5, 5), nn.LayerNorm(5)]
NOT_SHIFTED = [nn.GroupNorm(5, 5, affine=False), nn.LayerNorm(5, bias=False), nn.RMSNorm(5)]


@pytest.mark.parametrize("norm", SHIFTED + NOT_SHIFTED, ids=str)
def test_a_shift_fills_what_it_does_not_carry(norm: nn.Module) -> None:
    """A norm over the last axis, and a sum over another: the shift is no zero where that one was removed."""
    it = see(
        lambda m, x: m.b(m.n(m.a(x).view(-1, 5)).view(x.shape[0], -1, 5).sum(1)),
        torch.randn(3, 4),
        a=nn.Linear(4, 30),
        n=norm,
        b=nn.Linear(5, 2),
    )
    assert bool(it.axis("a.weight")[0][1]) == (norm in SHIFTED)


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm1d(6), nn.BatchNorm1d(6, affine=False), nn.GroupNorm(6, 6), nn.GroupNorm(3, 6, affine=False)],
    ids=str,
)
def test_a_removed_channel_is_zero_after_its_norm(norm: nn.Module) -> None:
    it = see(
        lambda m, x: m.b(m.n(m.a(x)).sum(1)), torch.randn(3, 2, 5), a=nn.Conv1d(2, 6, 1), n=norm, b=nn.Linear(5, 2)
    )
    assert it.free("a.weight")
    assert it.proven()


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(5, track_running_stats=False), nn.InstanceNorm1d(6)], ids=str)
def test_statistics_of_the_batch_itself_freeze_what_they_are_taken_over(norm: nn.Module) -> None:
    it = see(
        lambda m, x: m.b(m.n(m.a(x).view(x.shape[0], 6, -1))),
        torch.randn(3, 4),
        a=nn.Linear(4, 30),
        n=norm if isinstance(norm, nn.InstanceNorm1d) else nn.Sequential(Turned(), norm, Turned()),
        b=nn.Linear(5, 2),
    )
    frozen = dict(it.axis("a.weight"))
    assert str(frozen[5 if isinstance(norm, nn.InstanceNorm1d) else 6]).startswith("a statistic is taken over it")


class Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_a_length_of_zero_removes_and_its_direction_keeps_its_values(norm: Callable[[nn.Module], nn.Module]) -> None:
    layers = {"a": nn.Linear(4, 6), "n": norm(nn.Linear(6, 5)), "m": norm(nn.Linear(5, 5)), "b": nn.Linear(5, 2)}
    it = see(lambda m, x: m.b(m.m(m.n(m.a(x)).relu()).relu() + m.n(m.a(x))), torch.randn(3, 4), **layers)
    assert it.free("a.weight") == [6] and it.free("b.weight", 1) == [5]
    assert len(it.proven()) == 2
    (group,) = (group for group in groups_of(it.graph) if group.n_units == 5)
    masked = surgery.masks(it.model, [group], Plan({group.name: torch.arange(5) > 1}))
    shapes = {name: tuple(tensor.shape) for name, tensor in it.model.named_parameters()}
    assert {name for name, shape in shapes.items() if shape == (5, 1)} <= masked.keys()
    (square,) = (name for name, shape in shapes.items() if shape == (5, 5))
    assert masked[square].shape == (1, 5)  # what a row reads goes, the row itself stays
    assert not masked.keys() & {name for name, shape in shapes.items() if shape == (5, 6)}


@pytest.mark.parametrize("transposed", [False, True])
def test_weight_norm_of_convolutions(transposed: bool) -> None:
    conv: type[nn.Module] = nn.ConvTranspose1d if transposed else nn.Conv1d
    n = nn.utils.parametrizations.weight_norm(conv(6, 5, 3))
    it = see(lambda m, x: m.b(m.n(m.a(x))), torch.randn(2, 3, 9), a=nn.Conv1d(3, 6, 3), n=n, b=nn.Conv1d(5, 2, 1))
    assert it.free("a.weight") == [6] and it.free("b.weight", 1) == [5]
    assert len(it.proven()) == 2


def test_a_direction_that_is_read_elsewhere_is_frozen() -> None:
    n = nn.utils.parametrizations.weight_norm(nn.Linear(4, 5))
    layers = {"n": n, "b": nn.Linear(5, 2)}
    it = see(lambda m, x: m.b(m.n(x) + m.n.parametrizations.weight.original1.sum(1)), torch.randn(3, 4), **layers)
    assert "zeros break one" in it.reason("b.weight", 1)


def test_a_direction_that_is_computed_is_frozen() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return m.b(x @ torch._weight_norm(m.v * 2, m.g).mT)

    layers = {"v": nn.Parameter(torch.randn(5, 4)), "g": nn.Parameter(torch.randn(5, 1)), "b": nn.Linear(5, 2)}
    assert "undefined where its entries are zero" in see(forward, torch.randn(3, 4), **layers).reason("b.weight", 1)


# ---------------------------------------------------------------------------------------------------------- pooling


@pytest.mark.parametrize(
    ("function", "shape", "after"),
    [
        (lambda h: F.max_pool1d(h, 2), (1, -1, 6), 24),
        (lambda h: F.max_pool1d(h[0], 2), (1, -1, 6), 24),
        (lambda h: F.avg_pool1d(h, 2), (1, -1, 6), 24),
        (lambda h: F.adaptive_avg_pool1d(h, 2), (1, -1, 6), 16),
        (lambda h: F.avg_pool2d(h, 2), (1, -1, 4, 6), 12),
        (lambda h: F.avg_pool2d(h[0], 2), (1, -1, 4, 6), 12),
        (lambda h: F.max_pool2d(h[0], 2), (1, -1, 4, 6), 12),
        (lambda h: F.interpolate(h, scale_factor=2), (1, -1, 4, 6), 192),
    ],
)
def test_pooling_freezes_its_positions_with_and_without_a_batch(
    function: Callable[[Tensor], Tensor], shape: tuple[int, ...], after: int
) -> None:
    it = see(
        lambda m, x: m.b(function(m.a(x).view(shape)).reshape(1, -1)),
        torch.randn(1, 4),
        a=nn.Linear(4, 48),
        b=nn.Linear(after, 2),
    )
    channels, *spatial = it.axis("a.weight")
    assert channels == (48 // torch.Size(shape[2:]).numel(), None)
    assert spatial == [(n, "a spatial position") for n in shape[2:]]
    assert it.proven()


@pytest.mark.parametrize("transform", [torch.fft.fft, torch.fft.rfft])
def test_a_fourier_transform_passes_the_other_dims(transform: Callable[..., Tensor]) -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(transform(self.a(x), dim=1).real)

    it = see(forward, torch.randn(2, 5, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert it.free("a.weight") == [6]
    assert not it.graph.unknown
    assert it.proven()


def test_a_fourier_transform_mixes_its_own_dim() -> None:
    it = see(lambda m, x: m.b(torch.fft.fft(m.a(x)).real), torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert "statistic" in it.reason("a.weight")


def test_padding_by_what_stands_at_the_border_passes_channels() -> None:
    a, b = nn.Conv1d(3, 6, 3), nn.Conv1d(6, 2, 3)
    it = see(lambda m, x: m.b(F.pad(m.a(x), (1, 2), mode="replicate")), torch.randn(2, 3, 8), a=a, b=b)
    assert it.free("a.weight") == [6]
    assert it.proven()


def test_pixels_read_at_a_grid_are_attention_with_heads() -> None:
    """Each of three heads reads its own pixels of its own values: deformable attention (Zhu et al. 2021)."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        heads = m.grid.out_features // 2
        value = m.value(x).view(2, 16, heads, -1).permute(0, 2, 3, 1).unflatten(3, (4, 4)).flatten(0, 1)
        grid = torch.tanh(m.grid(x)[:, :7]).view(2, 7, heads, 1, 2).transpose(1, 2).flatten(0, 1)
        read = F.grid_sample(value, grid, align_corners=False).squeeze(-1)
        return m.out(read.view(2, -1, 7).transpose(1, 2))

    it = see(forward, torch.randn(2, 16, 4), value=nn.Linear(4, 15), grid=nn.Linear(4, 6), out=nn.Linear(15, 2))
    assert it.free("value.weight") == [3, 5]
    assert it.role("value.weight") == ["heads", "head_dim"]
    assert it.free("grid.weight") == [3]
    assert it.proven()


def test_a_position_that_is_not_there_reads_the_middle() -> None:
    """Where the grid is zero something is read: a sum over such positions is frozen."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        grid = m.grid(x).view(2, 3, 1, 2)
        return m.out(F.grid_sample(m.map(x).view(2, -1, 2, 2), grid, align_corners=False).sum((2, 3)))

    it = see(forward, torch.randn(2, 4), map=nn.Linear(4, 20), grid=nn.Linear(4, 6), out=nn.Linear(5, 2))
    assert it.free("grid.weight") == []
    assert it.free("map.weight") == [5]
    assert it.proven()


def test_maxima_put_back_where_they_were_pass_their_channels() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        h, at = nn.functional.max_pool2d(m.a(x), 2, return_indices=True)
        out: Tensor = m.b(nn.functional.max_unpool2d(torch.sigmoid(h) * h, at, 2))
        return out

    it = see(forward, torch.randn(2, 3, 10, 10), a=nn.Conv2d(3, 6, 3), b=nn.Conv2d(6, 2, 1))
    assert it.graph.unknown == frozenset()
    assert it.proven() and it.free("a.weight") == [6]
