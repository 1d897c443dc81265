from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from secateurs.criteria.magnitude import Magnitude
from secateurs.criteria.wanda import Wanda
from secateurs.recipe.parts import ROOMS, describe, name_of, part, part_names
from secateurs.structures.head import Head
from secateurs.structures.n_m import NM
from secateurs.types import SecateursError


def test_every_axis_has_parts() -> None:
    assert {axis: bool(part_names(axis)) for axis in ROOMS} == dict.fromkeys(ROOMS, True)
    assert {"magnitude", "random", "taylor", "wanda"} <= set(part_names("criterion"))
    assert not any(name.startswith("_") for axis in ROOMS for name in part_names(axis))
    assert "instruments" not in part_names("measure")  # a folder is no part


def test_a_part_by_name_and_by_fields() -> None:
    assert part("criterion", "wanda") == Wanda()
    assert part("criterion", {"magnitude": {"p": 1}}) == Magnitude(p=1)
    assert part("criterion", {"magnitude": None}) == Magnitude()
    assert part("structure", {"n_m": {"n": 1, "m": 8, "keep": ["head*"]}}) == NM(1, 8, keep=("head*",))


def test_description_is_the_inverse() -> None:
    assert describe("criterion", Wanda()) == "wanda"
    assert describe("structure", Head()) == {"head": {"keep": [], "multiple": 1, "same": False, "of": "group"}}
    assert name_of("structure", NM()) == "n_m"
    for made in (Head(of="query", keep=("a", "b")), NM(1, 4)):
        assert part("structure", describe("structure", made)) == made


OWN = """
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Coin:
    sides: int = 2
    needs: ClassVar[frozenset] = frozenset()

    def __call__(self, rows):
        return rows[0].weight.sum(1)


@dataclass(frozen=True)
class Useless:
    pass


def function(rows):
    return None
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own_criterion_of_test_parts.py"
    path.write_text(OWN)
    return str(path)


def test_a_part_of_ones_own(own: str) -> None:
    made = part("criterion", {f"{own}:Coin": {"sides": 3}})
    assert made.sides == 3
    assert part("criterion", describe("criterion", made)) == made


@dataclass(frozen=True)
class Weigh:
    """A criterion that lives in this module."""

    by: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({"weight"})

    def __call__(self, rows: Any) -> Any:
        return rows[0].weight.sum(dim=1) * self.by


def test_own_parts_are_named_by_their_path() -> None:
    assert name_of("criterion", Weigh()) == f"{__name__}:Weigh"


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("wonda", "unknown criterion 'wonda'; did you mean 'wanda'?"),
        ({"magnitude": {"q": 1}}, "criterion magnitude: unknown field 'q'; there is p"),
        ({"magnitude": {"p": "two"}}, "criterion magnitude: p must be one of 1, 2, got 'two'"),
        ({"magnitude": 2}, "criterion magnitude: its fields must be a mapping, got 2"),
        ({"magnitude": {}, "wanda": {}}, "criterion: give a name, or one name with its fields {name: {...}}, got"),
        (None, "criterion: give a name, or one name with its fields {name: {...}}, got None"),
        ("no.such.module:Part", "no module 'no.such.module'"),
        ("collections:OrderedDict", "criterion collections:OrderedDict: must be a frozen dataclass"),
        ("secateurs.structures.head:Head", "criterion secateurs.structures.head:Head: lacks what every criterion has"),
        ("secateurs.criteria.wanda:Wand", "secateurs.criteria.wanda has no 'Wand'; did you mean 'Wanda'?"),
    ],
)
def test_what_is_no_part_is_refused(spec: Any, line: str) -> None:
    with pytest.raises(SecateursError) as caught:
        part("criterion", spec)
    assert str(caught.value).startswith(line)


def test_own_things_that_are_no_parts_are_refused(own: str) -> None:
    with pytest.raises(SecateursError, match="must be a frozen dataclass"):
        part("criterion", f"{own}:function")
    with pytest.raises(SecateursError, match="lacks what every criterion has"):
        part("criterion", f"{own}:Useless")


def test_unknown_axis() -> None:
    with pytest.raises(SecateursError, match="unknown axis 'critereon'; did you mean 'criterion'"):
        part("critereon", "wanda")
