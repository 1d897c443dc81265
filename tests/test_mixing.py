from __future__ import annotations

import torch
from torch import nn

from networks import trained_
from secateurs.graph import scales, trace
from secateurs.mixing import Gathered, mix_, unscale_
from secateurs.structures.width import Width
from secateurs.types import Group, Member


def made() -> nn.Sequential:
    return trained_(nn.Sequential(nn.Linear(3, 4), nn.RMSNorm(4), nn.Linear(4, 2)))  # type: ignore[return-value]


def test_units_inside_two_heads_are_mixed_apart() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2))
    index = torch.arange(8).reshape(2, 2, 2).permute(0, 2, 1).reshape(4, 2)  # 2 heads x 2 queries x 2 units inside
    made_by = [Member(name, (0,), index, reads=False) for name in ("0.weight", "0.bias")]
    group = Group("inside", 4, (*made_by, Member("1.weight", (1,), index)), 2)
    x = torch.randn(5, 3)
    before, wanted = net[0](x), net(x)
    matrices = torch.tensor([[[2.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [3.0, 1.0]]]).double()
    mix_(net, [group], {"inside": matrices})
    torch.testing.assert_close(net(x), wanted)
    new, old = net[0](x), before
    torch.testing.assert_close(new[:, 0], 2 * old[:, 0] + old[:, 1])
    torch.testing.assert_close(new[:, 2], 2 * old[:, 2] + old[:, 3])  # the second query of the first head
    torch.testing.assert_close(new[:, 7], 3 * old[:, 6] + old[:, 7])


def test_a_scale_moves_into_its_reader() -> None:
    net, x = made(), torch.randn(5, 3)
    inputs, wanted, weight, scale = (x,), net(x), net[2].weight.clone(), net[1].weight.clone()
    network = trace(net, inputs)
    (group,) = Width()(network)
    assert unscale_(net, group, scales(net, inputs), network) == ""
    torch.testing.assert_close(net(x), wanted)
    assert (net[1].weight == 1).all()
    torch.testing.assert_close(net[2].weight, weight * scale)


def test_what_is_read_is_summed_once_for_all_its_readers() -> None:
    net = nn.ModuleList([nn.Linear(3, 2, bias=False), nn.Linear(3, 5, bias=False)])
    group = Group("width", 3, (Member("0.weight", (1,)), Member("1.weight", (1,))), 3)
    gathered, x, y = Gathered(group, net), torch.randn(4, 3), torch.randn(4, 3)
    for rows in (x, y):
        for parameter in net.parameters():
            gathered.add(parameter, rows)
    assert gathered.moments is not None
    torch.testing.assert_close(gathered.moments[0].float(), x.T @ x + y.T @ y)
    torch.testing.assert_close(gathered.readers()[0].float(), sum(w.T @ w for w in net.parameters()).detach())  # type: ignore[union-attr]
