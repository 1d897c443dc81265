from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from secateurs.listed import Listed, close_up_, like_modules, reading_alike
from secateurs.types import SecateursError, name_before


class Mixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(2, 3), nn.ReLU()) for _ in range(5))
        self.named = nn.ModuleDict({f"expert_{i}": nn.Linear(2, 2) for i in range(3)})
        self.words = nn.ModuleDict({"left": nn.Linear(2, 2), "right": nn.Linear(2, 2)})
        self.unlike = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 3)])
        self.tied = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.tied[1].weight = self.tied[0].weight
        self.bare = nn.ModuleList([nn.ReLU(), nn.ReLU()])


def test_lists_and_dicts_by_number_of_like_modules() -> None:
    numbered = [tuple(f"experts.{i}" for i in range(5)), tuple(f"named.expert_{i}" for i in range(3))]
    assert like_modules(Mixture()) == numbered


def test_modules_that_stay_close_up_and_know_what_they_were_called() -> None:
    model = Mixture()
    dense, change = copy.deepcopy(model), Listed("experts", (1, 3, 4), 5)
    close_up_(model, [change, Listed("named", (2,), 3), Listed("gone.experts", (0,), 2)])
    close_up_(model, [change])
    assert list(model.named._modules) == ["expert_0"] and len(model.experts) == 3
    weights = [model.experts[i][0].weight for i in range(3)]
    assert all(torch.equal(w, dense.experts[i][0].weight) for w, i in zip(weights, (1, 3, 4), strict=True))
    assert "experts.2.0.weight" in model.state_dict() and "experts.3.0.weight" not in model.state_dict()
    for it in (model, copy.deepcopy(model)):
        assert name_before(it, "experts.1.0.weight") == "experts.3.0.weight"
        assert name_before(it, "named.expert_0.bias") == "named.expert_2.bias"
        assert name_before(it, "unlike.1.weight") == "unlike.1.weight" and name_before(it, "") == ""


def test_lists_inside_lists() -> None:
    model = nn.ModuleDict({"outer": nn.ModuleList(Mixture() for _ in range(3))})
    wanted = model["outer"][2].experts[4][0].weight  # type: ignore[index, union-attr]
    changes = [Listed("outer", (0, 2), 3), Listed("outer.1.experts", (0,), 5), Listed("outer.2.experts", (0, 4), 5)]
    close_up_(model, changes)
    close_up_(model, changes)
    assert model.get_parameter("outer.1.experts.1.0.weight") is wanted
    assert name_before(model, "outer.1.experts.1.0.weight") == "outer.2.experts.4.0.weight"
    assert len(model.get_submodule("outer.0.experts")._modules) == 5


def test_a_list_of_another_length_is_another_network() -> None:
    with pytest.raises(SecateursError, match="experts holds 5 modules and held 6 when it was pruned"):
        close_up_(Mixture(), [Listed("experts", (0, 1), 6)])


def test_what_one_reads_its_likes_would_read() -> None:
    model = Mixture()
    read = set(reading_alike(model, {(id(model.experts[1][0]), "in_features"), (id(model.unlike[0]), "bias")}))
    assert read == {(id(expert[0]), "in_features") for expert in model.experts}  # type: ignore[index]


def test_nothing_is_changed_where_nothing_got_shorter() -> None:
    model, x = Mixture(), torch.randn(4, 2)
    wanted: Tensor = model.experts[0](x)
    close_up_(model, [])
    assert torch.equal(model.experts[0](x), wanted) and len(model.experts) == 5
