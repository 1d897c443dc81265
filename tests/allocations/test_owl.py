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
    assert found == {"a.layers.0.up": 553, "a.layers.0.down": 554, "a.layers.1.up": 393}  # 553 1/3 and 393 1/3
    assert sum(found.values()) == 1500
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


def test_narrow_layers_lose_what_is_asked_for_together() -> None:
    scores = {f"layers.{i}.up": with_outliers(i, 8) for i in range(5)}
    groups = [Group(name, 64 * 8, (), 8) for name in scores]  # 64 rows of 8
    scores = {name: score.repeat(64) for name, score in scores.items()}
    found = Owl()(groups, scores, 0.5, Price.linear(groups, dict.fromkeys(scores, 1.0)))
    assert sum(found.values()) == 20 and len(set(found.values())) > 1


@pytest.mark.parametrize("fields", [{"outlier": 0.0}, {"spread": 0.6}])
def test_fields_outside_their_range(fields: dict[str, float]) -> None:
    with pytest.raises(SecateursError, match=f"owl: {next(iter(fields))} must be"):
        Owl(**fields)
