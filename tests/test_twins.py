from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from secateurs import twins as module
from secateurs.multiplied import Multiplied
from secateurs.sequential import settle_
from secateurs.shelf import Shelf
from secateurs.twins import Drift, Twins, streams
from secateurs.types import Gram


class Branch(nn.Module):
    """x + f(norm(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.down(self.up(self.norm(x)).relu())
        return y


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), Branch(), Branch(), nn.Linear(6, 2)).requires_grad_(False)


def linears(net: nn.Module) -> dict[str, nn.Module]:
    return {name: each for name, each in net.named_modules() if isinstance(each, nn.Linear)}


def halved(net: nn.Module, seen: dict[str, Multiplied], aims: dict[str, Tensor]) -> Callable[[str, Multiplied], None]:
    def settle(name: str, multiplied: Multiplied) -> None:
        weight = net.get_parameter(f"{name}.weight")
        seen[name], aims[name] = multiplied, multiplied.aim(name, weight.clone())
        weight.mul_(0.5)

    return settle


def both_ways(net: nn.Module, shelf: Shelf | None = None) -> tuple[list[Tensor], ...]:
    """Settle by halving: the batches, what the walk gave for them, what their twins did, and the aims."""
    batches = [torch.randn(3, 5, 4), torch.randn(1, 5, 4)]
    ours: list[Tensor] = []
    dense: list[Tensor] = []
    aims: dict[str, Tensor] = {}
    forwards = [partial(lambda x: ours.append(net(x)), x) for x in batches]
    others = [partial(lambda x: dense.append(net(x)), x) for x in batches]
    found = streams(linears(net), net.modules(), partial(net, batches[0]))
    settle_(linears(net), Twins(forwards, others, found), halved(net, {}, aims), gram=True, shelf=shelf)
    return batches, ours, dense, list(aims.values())


def test_twins_go_as_the_dense_network_would_and_the_others_as_the_settled_one() -> None:
    dense, net = network(), network()
    batches, ours, others, _ = both_ways(net)
    for x, our, other in zip(batches, ours, others, strict=True):
        torch.testing.assert_close(our, net(x))
        torch.testing.assert_close(other, dense(x))
    for name, weight in net.named_parameters():
        half = 0.5 if name.endswith("weight") and "norm" not in name else 1.0
        assert torch.equal(weight, half * dense.get_parameter(name))
    assert not any(each._forward_pre_hooks or each._forward_hooks for each in net.modules())


def test_on_a_shelf_the_aims_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateurs.shelf.LEAST", 1)
    found = []
    for shelf in (None, Shelf(tmp_path)):
        net = network()
        if shelf is not None:
            shelf.spare(net)
        torch.manual_seed(1)
        found.append(both_ways(net, shelf))
    for expected, got in zip(*found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_the_aim_is_the_least_squares_towards_the_dense_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DAMPING", 1e-6)
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(4, 6), Branch()).requires_grad_(False), torch.randn(50, 4)
    dense = {name: weight.clone() for name, weight in net.named_parameters()}
    stream, target = net[0](x), net(x)
    aims: dict[str, Tensor] = {}
    found = streams(linears(net), net.modules(), partial(net, x))
    settle_(linears(net), Twins([partial(net, x)], [partial(net, x)], found), halved(net, {}, aims), gram=True)
    # As settled: everything halved, so the stream and what `down` multiplies have drifted.
    settled = net[0](x)
    inner = net[1].up(net[1].norm(settled)).relu()  # type: ignore[operator,union-attr]
    wanted = target - settled - dense["1.down.bias"]
    best = torch.linalg.lstsq(inner, wanted, driver="gelsd").solution.T
    torch.testing.assert_close(inner @ aims["1.down"].T, inner @ best.T, rtol=1e-3, atol=1e-3)
    assert torch.equal(aims["0"], dense["0.weight"])  # nothing was settled before it
    assert not torch.allclose(stream, settled)


def test_where_the_stream_is_met() -> None:
    net = network()
    found = streams(linears(net), net.modules(), partial(net, torch.randn(2, 4)))
    assert set(found) == {"1.down", "2.down"}
    assert found["1.down"] is net[1]  # the first to be given what `0` gives
    assert found["2.down"] is net[2]


def test_a_module_that_runs_twice_tells_nothing_of_the_stream() -> None:
    drop, branch = nn.Dropout(), Branch()
    branch.norm = nn.Identity()  # type: ignore[assignment]
    net = nn.Sequential(nn.Linear(4, 6), drop, branch, drop).eval()
    found = streams(linears(net), net.modules(), partial(net, torch.randn(2, 4)))
    assert found == {"2.down": branch}  # not the dropout, though it is given the stream first


def test_batches_that_go_another_way_than_their_twins_are_not_compared() -> None:
    gram, drift, weight = Gram(torch.eye(2)), Drift(), torch.ones(1, 2)
    drift.add(torch.ones(3, 2), torch.zeros(2, 2))
    assert drift.tokens == 0
    assert drift.made_up_for("w", weight, gram) is weight
    seen = Multiplied(True)
    seen.add(torch.ones(3, 2))
    seen.add(torch.ones(2, 2))
    seen.drift = drift
    drift.add(torch.ones(3, 2), torch.zeros(3, 2))
    assert seen.aim("w", weight) is weight  # two tokens are missing
    drift.add(torch.ones(2, 2), torch.zeros(2, 2))
    assert not torch.equal(seen.aim("w", weight), weight)


def test_a_weight_that_twins_alone_meet_is_settled_on_nothing_when_they_have_passed() -> None:
    parts = nn.ModuleDict({"all": nn.Linear(2, 2), "some": nn.Linear(2, 2)}).requires_grad_(False)
    met: list[str] = []

    def forward(x: Tensor, on: bool) -> None:
        x = parts["all"](x)
        met.append("on" if on else "off")
        if on:
            met.append(str(parts["some"](x).shape[0]))

    x = torch.randn(3, 2)
    both = Twins([partial(forward, x, False)], [partial(forward, x, True)], {})
    settle_(dict(parts.items()), both, lambda name, multiplied: met.append(f"{name} {multiplied is not None}"))
    assert met == ["all True", "off", "on", "3", "some False"]
