from __future__ import annotations

import pytest
import torch

from secateurs.allocations.owl import Owl, _layer
from secateurs.types import Counts, Group, Price, SecateursError


def allocate(owl: Owl, scores: dict[str, torch.Tensor], sparsity: float) -> Counts:
    groups = [Group(name, score.numel(), (), score.numel()) for name, score in scores.items()]
    return owl(groups, scores, sparsity, Price.linear(groups, dict.fromkeys(scores, 1.0)))


def with_outliers(n: int, size: int = 1000) -> torch.Tensor:
    score = torch.ones(size)
    score[:n] = 100
    return score


def test_the_layer_with_the_most_outliers_keeps_the_most() -> None:
    scores = {"layers.0.up": with_outliers(0), "layers.1.up": with_outliers(5), "layers.2.up": with_outliers(10)}
    assert allocate(Owl(), scores, 0.5) == {"layers.0.up": 420, "layers.1.up": 500, "layers.2.up": 580}
    assert allocate(Owl(outlier=7, spread=0.0), scores, 0.5) == dict.fromkeys(scores, 500)


def test_a_layer_is_what_lies_below_one_number() -> None:
    scores = {
        "a.layers.0.up": with_outliers(10),
        "a.layers.0.down": with_outliers(0),
        "a.layers.1.up": with_outliers(0),
    }
    found = allocate(Owl(), scores, 0.5)
    assert found["a.layers.0.up"] == found["a.layers.0.down"] > found["a.layers.1.up"]
    assert sum(found.values()) == pytest.approx(1500, abs=3)
    assert [_layer(Group(name, 1, (), 1)) for name in ("h.12.attn.weight", "0.weight", "fc1.weight", "x.3")] == [
        "h.12",
        "0",
        "fc1.weight",
        "x.3",
    ]


def test_what_is_gone_does_not_count() -> None:
    gone = torch.cat([with_outliers(10), torch.full((1000,), -torch.inf)])
    found = allocate(Owl(), {"0.a": gone, "1.a": with_outliers(10, 2000)}, 0.5)
    assert found["0.a"] > found["1.a"]
    assert allocate(Owl(), {"0.a": torch.full((4,), -torch.inf)}, 0.5) == {"0.a": 2}


@pytest.mark.parametrize("fields", [{"outlier": 0.0}, {"spread": 0.6}])
def test_fields_outside_their_range(fields: dict[str, float]) -> None:
    with pytest.raises(SecateursError, match=f"owl: {next(iter(fields))} must be"):
        Owl(**fields)
