"""A dense network and the same network made smaller by hand, as surgery makes it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from secateurs.deploy import Build, save
from secateurs.repair import Repair, apply_repairs_
from secateurs.types import Group, Plan

KEEP = torch.tensor([True, False] * 6)


class Net(nn.Module):
    """Tied in and out, a buffer that ``state_dict`` leaves out, and an integer that Python remembers."""

    def __init__(self, hidden: int = 12) -> None:
        super().__init__()
        self.hidden = hidden
        self.embedding = nn.Embedding(9, 4)
        self.up = nn.Linear(4, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.down = nn.Linear(hidden, 4)
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("sign", 1 - 2.0 * (torch.arange(hidden) % 3 == 0), persistent=False)

    def forward(self, token: Tensor) -> Tensor:
        up = torch.relu(self.norm(self.up(self.embedding(token))) * self.sign)
        out: Tensor = self.head(self.down(up.view(-1, self.hidden)))
        return out


@dataclass(frozen=True)
class Pruned:
    model: nn.Module
    plan: Plan
    repairs: tuple[Repair, ...]
    masked: nn.Module
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Text:
    """A recipe, as far as saving one goes."""

    text: str = "structure: [neuron]\ncriterion: magnitude\n"

    def to_yaml(self) -> str:
        return self.text


@pytest.fixture
def pruned() -> Pruned:
    dense = Net().eval()
    dense.norm.running_mean.normal_()
    small = copy.deepcopy(dense)
    for module, name, axis in [
        ("up", "weight", 0),
        ("up", "bias", 0),
        ("down", "weight", 1),
        ("norm", "weight", 0),
        ("norm", "bias", 0),
    ]:
        parameter = getattr(small.get_submodule(module), name)
        parameter.data = parameter.data.index_select(axis, KEEP.nonzero()[:, 0])
    for module, name in [("norm", "running_mean"), ("norm", "running_var"), ("", "sign")]:
        holder = small.get_submodule(module)
        setattr(holder, name, getattr(holder, name)[KEEP])
    repairs = (Repair("", "hidden", 6), Repair("up", "out_features", 6), Repair("down", "in_features", 6))
    apply_repairs_(small, repairs)
    return Pruned(small, Plan({"hidden": KEEP}), repairs, dense)


@pytest.fixture
def artifact(tmp_path: Path, pruned: Pruned) -> Callable[..., Path]:
    def make(name: str = "artifact", build: Build | None = None, **manifest: object) -> Path:
        save(tmp_path / name, pruned, recipe=Text(), manifest=manifest, build=build)
        return tmp_path / name

    return make
