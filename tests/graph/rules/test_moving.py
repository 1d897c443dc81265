from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graph.rules.tracing import see


def test_unfolding_an_image_passes_its_channels() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        windows = F.unfold(self.a(x), 2, padding=1)
        return self.b(windows.reshape(x.shape[0], -1, 4, windows.shape[-1]).sum(2).mT)

    it = see(forward, torch.randn(2, 3, 4, 4), a=nn.Conv2d(3, 6, 1), b=nn.Linear(6, 2))
    assert it.free("a.weight") == [6]
    assert it.proven()


def test_a_linear_layer_over_channels_times_windows() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(F.unfold(self.a(x), (2, 3)).mT)

    it = see(forward, torch.randn(2, 3, 4, 4), a=nn.Conv2d(3, 5, 1), b=nn.Linear(30, 2))
    assert it.free("a.weight") == [5]
    assert it.proven()


def test_windows_that_overlap_pass_what_is_whole() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        h = self.a(x)
        (batch, length, width), (outer, step, inner) = h.shape, h.stride()
        return self.b(h.as_strided((batch, length // 2 - 1, 4, width), (outer, 2 * step, step, inner)).sum(2))

    it = see(forward, torch.randn(2, 8, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    assert it.free("a.weight") == [6]
    assert it.proven()


def test_a_view_across_rows_freezes() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return self.b(self.a(x).as_strided((3, 3), (5, 1)))

    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(3, 2))
    assert it.reason("a.weight") == "aten.as_strided rearranges its positions"
    assert not it.graph.unknown


def test_sliding_windows_along_another_dim() -> None:
    it = see(
        lambda m, x: m.b(m.a(x).unfold(1, 3, 2).amax(3)), torch.randn(2, 7, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2)
    )
    assert it.free("a.weight") == [6]
    assert it.proven()


def test_sliding_windows_along_the_dim_itself() -> None:
    it = see(lambda m, x: m.b(m.a(x).unfold(1, 3, 3).amax(2)), torch.randn(2, 4), a=nn.Linear(4, 6), b=nn.Linear(2, 2))
    assert it.free("a.weight") == []


def test_an_expanded_view_cannot_be_numbered() -> None:
    it = see(
        lambda m, x: m.b(m.a(x)[:, None].expand(-1, 3, -1).as_strided((3, 6), (6, 1))),
        torch.randn(3, 4),
        a=nn.Linear(4, 6),
        b=nn.Linear(6, 2),
    )
    assert "rearranges" in it.reason("a.weight")
