"""Which modules in lists go with a dim, and what becomes of those that the inputs do not reach."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graph.rules.tracing import Seen, see, trace_checked
from networks import groups_of
from secateurs import surgery
from secateurs.graph import lists
from secateurs.graph.picks import NUMBERED
from secateurs.graph.statistics import reference
from secateurs.graph.trace import forward
from secateurs.repair import copied
from secateurs.types import Plan

X = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))


def list_of(n: int, width: int = 4) -> nn.Module:
    return nn.ModuleList(nn.Sequential(nn.Linear(width, 5), nn.ReLU(), nn.Linear(5, width)) for _ in range(n))


def routed(self: Any, x: Tensor, router: nn.Module, experts: Any) -> Tensor:
    """The best expert for each position."""
    out, best = torch.zeros_like(x), router(x).argmax(-1)
    for i, expert in enumerate(experts):
        if (best == i).any():
            out[best == i] = expert(x[best == i])
    return out


def test_a_router_has_the_nearest_list_and_none_that_holds_it() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router, self.experts, self.others = nn.Linear(4, 3), list_of(3), list_of(4)

        def forward(self, x: Tensor) -> Tensor:
            return routed(self, x, self.router, self.experts)

    def run(self: Any, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        out: Tensor = sum(it(x) for it in self.far)  # type: ignore[assignment]
        return out

    it = see(run, X, blocks=nn.ModuleList(Block() for _ in range(3)), far=list_of(3))
    for i in range(3):
        [dim] = [dim for dim in it.graph.dims.values() if f"blocks.{i}.router.weight[0]" in dim.carriers]
        assert (dim.role, dim.frozen) == ("experts", None)
        assert dim.modules == (tuple(f"blocks.{i}.experts.{n}" for n in range(3)),)
        assert {m.unit for m in it.graph.members(dim.name) if m.tensor.startswith("blocks")} == {None, 0, 1, 2}


def test_lists_side_by_side_go_together() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        weights = self.router(x).softmax(-1)
        inner = [down(up(x).relu()) for up, down in zip(self.up, self.down, strict=True)]
        return torch.stack(inner, 1).mul(weights[..., None]).sum(1)

    up, down = (nn.ModuleList(nn.Linear(*sizes) for _ in range(5)) for sizes in ((4, 3), (3, 4)))
    it = see(run, X, router=nn.Linear(4, 5), up=up, down=down)
    [dim] = [dim for dim in it.graph.dims.values() if dim.role == "experts"]
    assert [names[0] for names in dim.modules] == ["up.0", "down.0"]
    assert dim.name in it.proven(flagged=True)


def test_without_a_list_of_so_many_modules_they_stay() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        return routed(self, x, self.router, [*self.experts, self.last])

    it = see(run, X, router=nn.Linear(4, 4), experts=list_of(3), last=list_of(1)[0], other=list_of(4))  # type: ignore[index]
    assert it.reason("router.weight") == lists.FEW_REACHED, "the other list is never run"
    it = see(run, X, router=nn.Linear(4, 4), experts=list_of(3), last=list_of(1)[0])  # type: ignore[index]
    assert it.reason("router.weight") == NUMBERED


def test_two_routers_of_one_list_stay() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        return routed(self, x, self.one, self.experts) + routed(self, x, self.other, self.experts)

    it = see(run, X, one=nn.Linear(4, 3), other=nn.Linear(4, 3), experts=list_of(3))
    assert it.reason("one.weight") == it.reason("other.weight") == lists.SHARED


def partly() -> Seen:
    """Nobody asks the last two of five experts."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.enter(x)
        return self.leave(x + routed(self, x, self.router, self.experts))

    it = see(run, X, enter=nn.Linear(4, 6), router=nn.Linear(6, 5), experts=list_of(5, 6), leave=nn.Linear(6, 2))
    it.model.router.bias.data = torch.tensor([0.0, 0.0, 0.0, -99.0, -99.0])  # type: ignore[union-attr]
    it.model.router.weight.data *= 3  # type: ignore[operator, union-attr]
    return Seen(it.model, it.inputs, trace_checked(it.model, it.inputs))


def test_modules_that_no_input_reached_follow_the_stream_and_keep_what_is_their_own() -> None:
    it = partly()
    assert it.same(("experts.0.0.weight", 1), ("experts.4.0.weight", 1), ("experts.4.2.weight", 0), ("enter.weight", 0))
    assert it.free("experts.0.0.weight") == [5]
    weights = {weight.name: (weight.outputs, weight.inputs) for weight in it.graph.weights}
    assert weights["experts.4.2.weight"] == weights["experts.0.2.weight"] == ((0,), (1,))
    assert it.reason("experts.4.0.weight") == it.reason("experts.4.2.weight", 1) == lists.UNREACHED
    stream = it.graph.tensors["enter.weight"][0]
    [group] = [group for group in groups_of(it.graph) if group.dims == stream]
    plan = Plan({group.name: torch.arange(6) != 2})
    small = surgery.shrink(it.model, [group], plan, it.graph, it.inputs).model
    masked = copied(it.model)
    surgery.mask_(masked, [group], plan)
    for model in (small, masked):
        model.router.bias.data[3:] = 99.0  # type: ignore[union-attr, operator, index]
    assert torch.allclose(forward(small, (X,))[0], forward(masked, (X,))[0], atol=1e-5)


def test_experts_that_no_input_reached_can_go_and_can_stay() -> None:
    it = partly()
    [group] = [group for group in groups_of(it.graph, flagged=True) if it.graph.dims[group.dims[-1]].modules]
    for keep in ([1, 1, 0, 1, 0], [0, 1, 1, 0, 1]):
        plan = Plan({group.name: torch.tensor(keep).bool()})
        small = surgery.shrink(it.model, [group], plan, it.graph, it.inputs).model
        masked = copied(it.model)
        surgery.mask_(masked, [group], plan)
        for model, last in ((small, slice(2, None)), (masked, slice(3, None))):
            model.router.bias.data[last] += 99.0  # type: ignore[union-attr, operator, index]
        wanted = reference(masked, (X,), it.graph, [group], plan)
        assert torch.allclose(forward(small, (X,))[0], wanted[0], atol=1e-5)
