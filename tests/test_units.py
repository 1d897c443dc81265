from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateurs.types import Argument, Group, Member, Residual, SecateursError, Skip
from secateurs.units import Influence, without


class Turn(nn.Module):
    """Turns a stream of two numbers by an angle, and hands on another tensor too."""

    def __init__(self, angle: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        self.turn = torch.tensor(angle)

    def forward(self, other: Tensor, *, x: Tensor) -> tuple[Tensor, Tensor]:
        c, s = self.turn.cos(), self.turn.sin()
        return x @ torch.stack([torch.stack([c, s]), torch.stack([-s, c])]), other


def blocks(*names: str, of: str = "block") -> Group:
    chain = tuple(
        Residual(name, of, "*", (Skip(name, Argument("x", 1)),), (f"{name}.weight",))  # type: ignore[arg-type]
        for name in names
    )
    return Group(
        "*", len(names), tuple(Member(f"{n}.weight", (), unit=i) for i, n in enumerate(names)), 2, (), 1, "", chain
    )


def test_influence_is_one_minus_the_mean_cosine() -> None:
    model = nn.ModuleDict({"a": Turn(torch.pi / 3), "b": Turn(0.0)})
    with Influence(model, [blocks("a", "b")]) as seen:
        for length in (1, 4):
            x = torch.randn(2, length, 2)
            x, _ = model["a"](torch.ones(3), x=x)
            model["b"](torch.ones(3), x=x)
    assert torch.allclose(seen.found()["*"], torch.tensor([0.5, 0.0]), atol=1e-5)
    assert not any(module._forward_hooks for module in model.values())


def test_influence_of_a_branch_is_refused() -> None:
    with pytest.raises(SecateursError, match="influence is of whole blocks"):
        Influence(nn.Identity(), [blocks("a", "b", of="branch")])


def test_without_a_unit_its_members_are_zero_and_come_back() -> None:
    tensors = {"made": torch.randn(4, 3), "read": torch.randn(2, 4)}
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    group = Group("g", 4, (Member("made", (0,)), Member("read", (1,))), 4, ("g",))
    with without(tensors, group, 2) as changed:
        assert changed
        assert not tensors["made"][2].any()
        assert not tensors["read"][:, 2].any()
        assert torch.equal(tensors["made"][[0, 1, 3]], before["made"][[0, 1, 3]])
    assert all(torch.equal(before[name], tensor) for name, tensor in tensors.items())


def test_without_a_layer_its_tensors_alone_are_zero() -> None:
    tensors = {"a.weight": torch.ones(2, 2), "b.weight": torch.zeros(2, 2)}
    with without(tensors, blocks("a", "b"), 0) as changed:
        assert changed
        assert not tensors["a.weight"].any()
    with without(tensors, blocks("a", "b"), 1) as changed:
        assert not changed  # it is gone already
        assert tensors["a.weight"].all()


def test_a_network_that_lost_units_is_refused_and_a_layer_that_is_not_run_is_passed_over() -> None:
    group = Group("g", 4, (Member("made", (0,)),), 4, ("g",))
    with pytest.raises(SecateursError, match="g: the loss without single units cannot be taken"):
        without({"made": torch.ones(3, 3)}, group, 0).__enter__()
    with without({"b.weight": torch.ones(2, 2)}, blocks("a", "b"), 0) as changed:
        assert not changed
