from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from secateurs.allocations.global_rank import GlobalRank
from secateurs.allocations.uniform import Uniform
from secateurs.choosers.osscar import Osscar
from secateurs.criteria.magnitude import Magnitude
from secateurs.criteria.taylor import Taylor
from secateurs.criteria.wanda import Wanda
from secateurs.recipe.recipe import Recipe, load_recipe, recipe_names
from secateurs.recoveries.nothing import Nothing
from secateurs.schedules.cubic import Cubic
from secateurs.schedules.one_shot import OneShot
from secateurs.solvers.sparsegpt import Sparsegpt
from secateurs.structures.channel import Channel
from secateurs.structures.head import Head
from secateurs.structures.n_m import NM
from secateurs.structures.neuron import Neuron
from secateurs.types import SecateursError

TEXT = """
structure: [head, {neuron: {keep: ["*.pooler.*"]}}]
criterion: taylor
allocation: {global_rank: {currency: parameters, floor: 1e-1}}
schedule: {cubic: {rounds: 3}}
recovery: nothing
calibration_batches: 4
"""

RECIPE = Recipe(
    (Head(), Neuron(keep=("*.pooler.*",))), Taylor(), GlobalRank("parameters", floor=0.1), Cubic(3), Nothing(), 4
)


def test_from_yaml() -> None:
    assert Recipe.from_yaml(TEXT) == RECIPE


def test_round_trip_writes_everything_out() -> None:
    assert Recipe.from_dict(RECIPE.to_dict()) == RECIPE
    assert Recipe.from_yaml(RECIPE.to_yaml()) == RECIPE
    assert RECIPE.to_dict()["allocation"] == {
        "global_rank": {"currency": "parameters", "normalise": "none", "floor": 0.1}
    }
    assert Recipe.from_yaml(RECIPE.to_yaml()).to_yaml() == RECIPE.to_yaml()


def test_only_structure_and_criterion_are_asked_for() -> None:
    recipe = Recipe.from_dict({"structure": "channel", "criterion": "magnitude"})
    assert recipe == Recipe((Channel(),), Magnitude(), GlobalRank(), OneShot(), Nothing(), 16)
    assert Recipe.from_dict({"structure": {"n_m": {"m": 8}}, "criterion": "wanda"}).structure == (NM(2, 8),)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"critereon": "wanda"}, "recipe: unknown key 'critereon'; did you mean 'criterion'?"),
        ({"zzz": 1}, "recipe: unknown key 'zzz'; there is structure, criterion, allocation, schedule, recovery,"),
        ({"structure": []}, "recipe: structure names nothing"),
        ({"structure": [["head"]]}, "structure: give a name, or one name with its fields"),
        ({"schedule": "cubik"}, "unknown schedule 'cubik'; did you mean 'cubic'?"),
        ({"schedule": {"cubic": {"rounds": 0}}}, "cubic: rounds must be at least 1, got 0"),
        ({"schedule": {"cubic": {"rounds": "3"}}}, "schedule cubic: rounds must be an int, got '3'"),
        ({"calibration_batches": 0}, "recipe: calibration_batches must be at least 1, got 0"),
        ({"calibration_batches": "all"}, "recipe: calibration_batches must be an int, got 'all'"),
    ],
)
def test_a_bad_recipe_is_refused_in_one_line(change: dict[str, Any], line: str) -> None:
    with pytest.raises(SecateursError) as caught:
        Recipe.from_dict({"structure": ["head"], "criterion": "taylor", **change})
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_solver_is_optional() -> None:
    spec = {"structure": ["weight"], "criterion": "wanda"}
    assert Recipe.from_dict(spec).solver is None
    assert Recipe.from_dict(spec).to_dict()["solver"] is None
    with pytest.raises(SecateursError, match="add sequential: true"):
        Recipe.from_dict(spec | {"solver": "sparsegpt"})
    solved = Recipe.from_dict(spec | {"solver": {"sparsegpt": {"columns": 64}}, "sequential": True})
    assert solved.solver == Sparsegpt(columns=64)
    assert Recipe.from_dict(solved.to_dict() | {"compensate": True}).compensate
    with pytest.raises(SecateursError, match="only a solver changes values"):
        Recipe.from_dict(spec | {"compensate": True})
    assert Recipe.from_yaml(solved.to_yaml()) == solved


def test_a_chooser_is_optional_and_for_units() -> None:
    spec = {"structure": ["neuron"], "criterion": "taylor"}
    chosen = Recipe.from_dict(spec | {"chooser": {"osscar": {"swaps": 7}}})
    assert chosen.chooser == Osscar(swaps=7)
    assert chosen.needs == {"weight", "gradient", "gram"} and Recipe.from_dict(spec).needs == {"weight", "gradient"}
    assert Recipe.from_yaml(chosen.to_yaml()) == chosen
    with pytest.raises(SecateursError, match="drop sequential"):
        Recipe.from_dict(spec | {"chooser": "osscar", "sequential": True})


def test_missing_key() -> None:
    with pytest.raises(SecateursError, match="recipe: key 'criterion' is missing"):
        Recipe.from_yaml("structure: [head]")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("structure: [head", "recipe: no valid YAML in line 1:"),
        (
            "structure: [head]\ncriterion: wanda\ncriterion: taylor\n",
            "recipe: no valid YAML in line 1: key 'criterion'",
        ),
        ("- head", "recipe: must be a mapping of keys to parts, got ['head']"),
        ("", "recipe: must be a mapping of keys to parts, got None"),
        ("a: !!python/object/apply:os.getcwd []", "recipe: no valid YAML in line 1: could not determine a constructor"),
    ],
)
def test_text_that_is_no_recipe(text: str, line: str) -> None:
    with pytest.raises(SecateursError) as caught:
        Recipe.from_yaml(text)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["1e-3", "1.0e-3", "1E-3", "+1e-3", "0.001", "1.e-3"])
def test_numbers_as_people_write_them(number: str) -> None:
    recipe = Recipe.from_yaml(f"structure: head\ncriterion: taylor\nallocation: {{global_rank: {{floor: {number}}}}}")
    assert recipe.allocation == GlobalRank(floor=0.001)


def test_load_by_name_and_by_path(tmp_path: Path) -> None:
    assert {"default", "transformer", "convnet", "wanda_2_4", "random_baseline"} <= set(recipe_names())
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    assert load_recipe(path) == load_recipe(str(path)) == RECIPE
    wanted = Recipe((NM(2, 4),), Wanda(), Uniform(), OneShot(), Nothing(), 128, sequential=True)
    assert load_recipe("wanda_2_4") == wanted


def test_load_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SecateursError, match=r"unknown recipe 'defualt'; did you mean 'default'\?, or give the path"):
        load_recipe("defualt")
    with pytest.raises(SecateursError, match=r"none\.yaml: cannot be read"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SecateursError, match=r"bytes\.yaml: cannot be read"):
        load_recipe(tmp_path / "bytes.yaml")


def n_m(n: int, m: int, allocation: Any) -> Recipe:
    return Recipe((NM(n, m), Head()), Magnitude(), allocation)


def test_n_m_fixes_the_sparsity() -> None:
    n_m(2, 4, Uniform()).check(0.5)
    n_m(1, 4, Uniform()).check(0.75)
    n_m(2, 6, Uniform()).check(2 / 3)
    with pytest.raises(SecateursError, match=r"structure n_m removes exactly 0\.5 .* but sparsity 0\.6 was asked"):
        n_m(2, 4, Uniform()).check(0.6)


def test_n_m_needs_an_even_allocation() -> None:
    n_m(2, 4, GlobalRank(floor=0.5)).check(0.5)  # a floor of n/m leaves no choice
    with pytest.raises(SecateursError, match="allocation global_rank takes more from some layers; use uniform"):
        n_m(2, 4, GlobalRank()).check(0.5)


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_sparsity_outside_its_range(sparsity: float) -> None:
    with pytest.raises(SecateursError, match="sparsity is the fraction removed and must lie between 0 and 1"):
        RECIPE.check(sparsity)


def test_other_structures_take_any_sparsity() -> None:
    RECIPE.check(0.01)
    RECIPE.check(0.99)
