from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from networks import trained_
from secateurs import surgery
from secateurs.graph import trace
from secateurs.graph.attempts import MOST_IN_VAIN, MOST_TRIES, Progress, attempts
from secateurs.graph.trace import forward
from secateurs.types import Group, Plan


def test_what_gets_further_is_kept() -> None:
    """Twenty choices of two have a million combinations; a pass that stops at the first wrong one needs few."""
    right = [i % 2 for i in range(20)]
    progress = Progress()
    tried = []
    for picks in attempts([(0, 1)] * 20, progress):
        tried.append(picks)
        if picks == right:
            break
        progress.reached = (next(i for i in range(20) if picks[i] != right[i]), 0)
    assert tried[-1] == right
    assert len(tried) < 30


def test_several_that_must_change_together_are_found_too() -> None:
    found = [tuple(picks) for picks in attempts([(0, 1, 2), (0, 1), (0, 1)], Progress())]
    assert found[0] == (0, 0, 0)
    assert len(found) == len(set(found)) == 1 + 4 + 5 + 2
    assert (2, 1, 0) in found and (0, 1, 1) in found


def test_what_changes_nothing_is_given_up_early() -> None:
    assert len(list(attempts([(0, 1)] * 30, Progress()))) == 1 + 30 + MOST_IN_VAIN
    progress = Progress()
    for n, _ in enumerate(attempts([(0, 1)] * 30, progress), start=1):
        progress.said = f"something else, {n}"
    assert n == MOST_TRIES


def test_a_pass_is_followed_to_where_it_goes_astray() -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    progress = Progress()
    with progress.recording():
        forward(model, (torch.ones(2, 4),))
    assert len(progress.wanted) == 4
    with progress.following():
        forward(model, (torch.ones(2, 4),))
    assert progress.reached[0] == 4
    with torch.no_grad():
        model[1].bias.add_(1)
    with progress.following():
        forward(model, (torch.ones(2, 4),))
    assert progress.reached[0] == 1
    progress.wanted[1] = replace(progress.wanted[1], shape=(9, 9))  # of another shape nothing is known
    model[2].weight.data = torch.ones(4, 5)
    with pytest.raises(RuntimeError), progress.following():
        forward(model, (torch.ones(2, 4),))
    assert progress.reached[0] == 2


class Attention(nn.Module):
    """Keeps two sizes that both change with its heads, and are each told from the width by no number."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.inner = 4, 12
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.view(*t.shape[:2], self.heads, 3).transpose(1, 2) for t in self.qkv(x).split(self.inner, -1))
        mixed = ((q @ k.mT).softmax(-1) @ v).transpose(1, 2)
        return x + self.out(mixed.reshape(*x.shape[:2], self.inner))


def test_every_layer_of_a_deep_network_finds_its_own_sizes() -> None:
    model = trained_(nn.Sequential(*(Attention() for _ in range(6)), nn.LayerNorm(12), nn.Linear(12, 2)))
    inputs = (torch.randn(2, 5, 12),)
    graph = trace(model, inputs)
    heads = [dim for dim in graph.dims.values() if dim.role == "heads"]
    assert len(heads) == 6
    groups = [Group(dim.name, 4, graph.members(dim.name), 4, (dim.name,)) for dim in heads]
    plan = Plan({group.name: torch.arange(4) > i % 3 for i, group in enumerate(groups)})
    small = surgery.shrink(model, groups, plan, graph, inputs).model
    assert [(layer.heads, layer.inner) for layer in small[:6]] == 2 * [(3, 9), (2, 6), (1, 3)]
