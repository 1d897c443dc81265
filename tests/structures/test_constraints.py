from __future__ import annotations

import pytest
import torch
from torch import nn

from secateurs.allocations.global_rank import GlobalRank
from secateurs.graph import trace
from secateurs.recipe import part
from secateurs.structures.neuron import Neuron
from secateurs.types import SecateursError


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 20), nn.Linear(20, 3))


def counts(structure: Neuron, sparsity: float) -> list[int]:
    graph = trace(network(), (torch.randn(2, 4),))
    groups = structure(graph)
    source = torch.Generator().manual_seed(0)
    scores = {g.name: (i + 1) * torch.rand(g.n_units, generator=source) for i, g in enumerate(groups)}
    found = GlobalRank("units")(groups, scores, sparsity, graph.price(groups, "units"))
    return [found[group.name] for group in groups]


def test_multiples_are_kept_and_layers_no_wider_are_left_alone() -> None:
    assert counts(Neuron(multiple=8), 0.15) == [16, 16]
    assert counts(Neuron(multiple=8), 0.35) == [8, 16]
    assert counts(Neuron(multiple=3), 0.1) == [15, 8, 18]


def test_layers_of_one_width_keep_the_same_number() -> None:
    first, narrow, last = counts(Neuron(same=True), 0.3)
    assert first == last < 20 and narrow < 8
    free = counts(Neuron(), 0.3)
    assert free[0] != free[2]


def test_a_multiple_below_one_is_refused() -> None:
    with pytest.raises(SecateursError, match="neuron: multiple must be at least 1, got 0"):
        part("structure", {"neuron": {"multiple": 0}})


def test_a_multiple_that_leaves_nothing_to_remove_is_told(caplog: pytest.LogCaptureFixture) -> None:
    counts(Neuron(multiple=8), 0.1)
    assert "neuron: multiple 8 leaves nothing to remove of 2.neurons" in caplog.text.replace("neurons0", "neurons")
    caplog.clear()
    counts(Neuron(), 0.1)
    assert not caplog.records
