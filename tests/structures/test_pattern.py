from __future__ import annotations

import torch
from torch import nn

from secateurs.graph import trace
from secateurs.select import select
from secateurs.structures.pattern import Pattern
from secateurs.types import Group


def groups(pattern: Pattern) -> dict[str, Group]:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.Conv2d(5, 2, 2))
    return {g.name: g for g in pattern(trace(net, (torch.randn(2, 3, 6, 6),)))}


def test_every_kernel_has_a_shape_of_its_own() -> None:
    found = groups(Pattern())
    assert {name: (g.n_units, g.block) for name, g in found.items()} == {"0.weight": (4 * 3 * 9, 9)}
    group, weight = found["0.weight"], torch.randn(4, 3, 3, 3)
    plan = select([group], {group.name: group.members[0].cut(weight.abs()).flatten()}, {group.name: 4})
    mask = group.members[0].mask(plan.keep[group.name], weight.shape)
    assert (mask.sum((2, 3)) == 4).all()
    assert torch.allclose((weight.abs() * mask).sum((2, 3)), weight.abs().flatten(2).topk(4).values.sum(2))


def test_a_layer_has_one_shape_for_all_of_its_kernels() -> None:
    group = groups(Pattern(per="layer", outputs=True))["0.weight"]
    assert (group.n_units, group.block) == (9, 9)
    mask = group.members[0].mask(torch.arange(9) != 4, (4, 3, 3, 3)).expand(4, 3, 3, 3)
    assert int((~mask).sum()) == 4 * 3 and not mask[:, :, 1, 1].any()


def test_layers_that_make_outputs_on_request() -> None:
    assert groups(Pattern(outputs=True)).keys() == {"0.weight", "3.weight"}
