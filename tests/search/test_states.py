"""A pruned network goes to the disk and comes back to the bit, ready to be pruned further."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from secateurs.graph import trace
from secateurs.prune import Pruned, find_groups, prune, unpruned
from secateurs.recipe import Recipe
from secateurs.search import states
from secateurs.types import SecateursError, Task


@pytest.fixture(params=["neuron", "weight"])
def pruned(request: pytest.FixtureRequest, net: nn.Module, task: Task, recipe: Recipe) -> Pruned:
    method = Recipe.from_dict({**recipe.to_dict(), "structure": [request.param]})
    torch.manual_seed(1)
    return prune(net, task, method, 0.4)


def same(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_round_trip_to_the_bit(tmp_path: Path, net: nn.Module, pruned: Pruned) -> None:
    states.keep(tmp_path / "states" / "001.safetensors", pruned)
    back = states.restore(tmp_path / "states" / "001.safetensors", net, pruned.groups)
    assert same(back.model, pruned.model) and same(back.masked, pruned.masked)
    assert all(torch.equal(back.plan.keep[name], keep) for name, keep in pruned.plan.keep.items())
    assert (back.repairs, back.sparsity) == (pruned.repairs, pruned.sparsity)
    x = torch.randn(5, 2)
    assert torch.equal(back.model(x), pruned.model(x))
    assert [p.name for p in (tmp_path / "states").iterdir()] == ["001.safetensors"]


def test_pruning_goes_on_alike(tmp_path: Path, net: nn.Module, pruned: Pruned, task: Task, recipe: Recipe) -> None:
    states.keep(tmp_path / "s" / "1", pruned)
    further = []
    for start in (pruned, states.restore(tmp_path / "s" / "1", net, pruned.groups)):
        torch.manual_seed(2)
        further.append(prune(net, task, recipe, 0.6, start=start))
    assert same(further[0].model, further[1].model)


def test_from_the_dense_network_is_from_nothing(net: nn.Module, task: Task, recipe: Recipe) -> None:
    network = trace(net, task.example_inputs)
    groups = find_groups(net, recipe.structure, network, task.example_inputs)
    made = []
    for start in (None, unpruned(net, groups)):
        torch.manual_seed(3)
        made.append(prune(net, task, recipe, 0.3, start=start, network=network))
    assert same(made[0].model, made[1].model)


def test_a_damaged_file_is_named(tmp_path: Path, net: nn.Module, pruned: Pruned) -> None:
    path = tmp_path / "states" / "001.safetensors"
    states.keep(path, pruned)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SecateursError, match=r"001\.safetensors"):
        states.restore(path, net, pruned.groups)


def test_a_full_disk_leaves_nothing(tmp_path: Path, pruned: Pruned, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(states, "write_tensors", full)
    with pytest.raises(SecateursError, match="is full"):
        states.keep(tmp_path / "states" / "001.safetensors", pruned)
    assert list((tmp_path / "states").iterdir()) == []
