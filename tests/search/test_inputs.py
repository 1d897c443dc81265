"""What a search depends on is checked, and told apart."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from secateurs.measures.f1 import F1
from secateurs.recipe import Recipe
from secateurs.search import Algorithm1, Budget, Weights
from secateurs.search.inputs import fingerprint, inputs_of, sparsity_of
from secateurs.types import SecateursError, Task


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, 2.0])
def test_p_outside_its_range(recipe: Recipe, p: float) -> None:
    with pytest.raises(SecateursError, match=rf"p must be in \(0, 1\), got {p:g}"):
        sparsity_of(recipe, p)


def test_a_pattern_brings_its_own_p(recipe: Recipe) -> None:
    pattern = Recipe.from_dict({"structure": ["n_m"], "criterion": "magnitude", "allocation": "uniform"})
    assert sparsity_of(pattern, None) == 0.5
    assert sparsity_of(recipe, None) is None and sparsity_of(recipe, 0.4) == 0.4
    with pytest.raises(SecateursError, match=r"0\.5"):
        sparsity_of(pattern, 0.3)


def test_the_fingerprint_is_of_the_weights(net: nn.Module) -> None:
    other = copy.deepcopy(net)
    assert fingerprint(other) == fingerprint(net)
    with torch.no_grad():
        other[0].bias[0] += 1e-6
    assert fingerprint(other) != fingerprint(net)
    assert fingerprint(copy.deepcopy(net).to(torch.bfloat16)) != fingerprint(net)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(net: nn.Module, bad: float) -> None:
    broken = copy.deepcopy(net)
    with torch.no_grad():
        broken[2].weight[0, 0] = bad
    with pytest.raises(SecateursError, match=r"2\.weight holds NaN or infinite"):
        fingerprint(broken)


def test_what_makes_another_search(net: nn.Module, recipe: Recipe, tasks: Callable[..., Task]) -> None:
    base: tuple[Any, ...] = (Algorithm1(0.1), net, tasks(), recipe, None)

    def differing(*args: Any) -> set[str]:
        one, two = inputs_of(*base), inputs_of(*args)
        return {name for name in one if one[name] != two[name]}

    assert differing(*base) == set()
    assert differing(Algorithm1(0.2), *base[1:]) == {"epsilon"}
    assert differing(Algorithm1(0.1, seed=1, start=0.5, tolerance=0.1), *base[1:]) == {"seed", "start", "tolerance"}
    assert differing(Algorithm1(0.1, preference=Weights({"macs": 1}), budget=Budget(9)), *base[1:]) == set()
    assert differing(base[0], net, tasks(F1(), rows=3), *base[3:]) == {"quality", "data"}
    assert differing(base[0], net, replace(tasks(), name="other"), *base[3:]) == {"task"}
    assert differing(*base[:4], 0.5) == {"p"}
