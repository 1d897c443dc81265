from __future__ import annotations

import pytest
import torch
from torch import nn

from secateurs.graph import trace
from secateurs.prune import find_groups
from secateurs.select import select
from secateurs.structures.n_m import NM
from secateurs.types import SecateursError


def model() -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU(), nn.Conv1d(8, 6, 2), nn.Flatten(), nn.Linear(6 * 3, 2))


def test_blocks_are_neighbours_along_the_input_features() -> None:
    net = model()
    groups = NM()(trace(net, (torch.randn(2, 4, 6),)))
    assert [(g.name, g.n_units, g.block) for g in groups] == [("0.weight", 96, 4), ("2.weight", 96, 4)]
    scores = {g.name: g.members[0].cut(net.get_parameter(g.name).detach().abs()).flatten() for g in groups}
    plan = select(groups, scores, {g.name: 2 for g in groups})
    for group in groups:
        weight = net.get_parameter(group.name)
        mask = group.members[0].mask(plan.keep[group.name], weight.shape)
        out, inputs, kernel = weight.shape
        assert (mask.reshape(out, inputs // 4, 4, kernel).sum(2) == 2).all()
        kept = weight.abs().where(mask, 0).reshape(out, -1, 4, kernel).sum(2)
        best = weight.abs().reshape(out, -1, 4, kernel).topk(2, dim=2).values.sum(2)
        assert torch.allclose(kept, best)


def test_what_m_does_not_divide_is_named() -> None:
    network = trace(model(), (torch.randn(2, 4, 6),))
    with pytest.raises(
        SecateursError,
        match=r"n_m: 3 does not divide the input features of 0\.weight \(4\), 2\.weight \(8\); name them",
    ):
        NM(2, 3)(network)
    assert [g.name for g in NM(1, 2, keep=("0.*",))(network)] == ["2.weight"]
    with pytest.raises(SecateursError, match=r"n_m: 4 does not divide the input features of 4\.weight \(18\)"):
        NM(outputs=True)(network)


def test_the_pattern_fixes_the_sparsity() -> None:
    assert NM(2, 4).sparsity == 0.5
    assert NM(1, 4).sparsity == 0.75


@pytest.mark.parametrize(("n", "m"), [(0, 4), (4, 4), (5, 4)])
def test_impossible_patterns_are_refused(n: int, m: int) -> None:
    with pytest.raises(SecateursError, match=f"n_m: n of m weights are kept, with 1 <= n < m; got {n} of {m}"):
        NM(n, m)


def test_all_that_m_does_not_divide_are_named_at_once() -> None:
    network = trace(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 10), nn.Linear(10, 2)), (torch.randn(2, 4),))
    with pytest.raises(SecateursError, match=r"features of 1\.weight \(6\), 2\.weight \(10\); name them"):
        NM(2, 4, outputs=True)(network)


def test_kernels_without_a_block_are_left_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """The first convolution of an image, and depthwise ones; a matrix that is as narrow is refused."""
    convolutions = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1)
    net = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(16, 4), nn.Linear(4, 2)).eval()
    inputs = (torch.randn(2, 3, 6, 6),)
    network = trace(net, inputs)
    assert [group.name for group in NM()(network)] == ["2.weight", "4.weight"]
    assert NM(keep=("?.weight",)).left(network) == ""
    find_groups(net, [NM()], network, inputs)
    assert caplog.text.count("n_m: 0.weight (3), 1.weight (1) stays as it is: fewer than 4 input features") == 1
    with pytest.raises(SecateursError, match=r"n_m: 8 does not divide the input features of 5\.weight \(4\)"):
        NM(4, 8, outputs=True)(network)
