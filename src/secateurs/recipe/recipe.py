"""Recipe <-> YAML: a pruning method as a composition of parts, each named by its file and made of its fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import yaml

from secateurs.allocations.global_rank import GlobalRank
from secateurs.recipe.fields import brief, check_names, fit, unknown
from secateurs.recipe.parts import describe, name_of, part
from secateurs.recoveries.nothing import Nothing
from secateurs.schedules.one_shot import OneShot
from secateurs.types import (
    Allocation,
    Basis,
    Chooser,
    Criterion,
    Group,
    Need,
    Price,
    Recovery,
    Schedule,
    SecateursError,
    Solver,
    Structure,
)

_SINGLE = ("criterion", "allocation", "schedule", "recovery")
_OPTIONAL = ("chooser", "solver", "basis")


@dataclass(frozen=True)
class Recipe:
    """A pruning method: what can go x what it is worth x how much from where x when x how to heal.

    Args:
        structure: What can go; the groups of several structures are ranked together.
        criterion: What a unit is worth.
        allocation: How much from where.
        schedule: When.
        recovery: How to heal after each round.
        calibration_batches: Batches of the train split that the criterion may look at, each round.
        rewrite: Whether a network whose Python code refuses smaller sizes may come back as its operators (a
            ``Program``), so that more of it can go.
        chooser: Who chooses which units of a group stay, once the allocation has said how many; None: the best-scored.
        sequential: Whether single weights are settled one after the other, in one pass in which each meets what the
            settled ones before it give; if not, all are decided together on what the whole network gives.
        solver: Who chooses and updates the entries of a weight, where that is sequential; None: the scores choose, and
            what stays keeps its value.
        compensate: Whether the solver makes up for what the weights settled before have changed as well, towards what
            the dense network gives.
        permute: Whether, where few neighbours compete (N:M), the features that a weight reads are first put in an order
            in which more is kept; what writes them is put in the same, so that the network stays what it is.
        basis: To which units the dims that the structures can prune are turned first, where that changes nothing of
            what the network computes; None: they are pruned as they are.

    Raises:
        SecateursError: No structure, fewer than one calibration batch, a solver that is not to work sequentially, a
            chooser or a basis that is, an order of features without N:M, or nothing that could compensate.
    """

    structure: tuple[Structure, ...]
    criterion: Criterion
    allocation: Allocation = field(default_factory=GlobalRank)
    schedule: Schedule = field(default_factory=OneShot)
    recovery: Recovery = field(default_factory=Nothing)
    calibration_batches: int = 16
    rewrite: bool = False
    chooser: Chooser | None = None
    sequential: bool = False
    solver: Solver | None = None
    compensate: bool = False
    permute: bool = False
    basis: Basis | None = None

    def __post_init__(self) -> None:
        """Check that there is something to prune, and data to look at."""
        if not self.structure:
            raise SecateursError("recipe: structure names nothing; give at least one, e.g. structure: [channel]")
        if self.calibration_batches < 1:
            raise SecateursError(f"recipe: calibration_batches must be at least 1, got {self.calibration_batches}")
        if self.solver is not None and not self.sequential:
            raise SecateursError("recipe: a solver settles one weight after the other; add sequential: true")
        if self.chooser is not None and self.sequential:
            raise SecateursError("recipe: a chooser looks at units of groups, not at single weights; drop sequential")
        if self.basis is not None and self.sequential:
            raise SecateursError("recipe: a basis turns dims that can shrink, not single weights; drop sequential")
        if self.permute and not self.sequential:
            raise SecateursError("recipe: features are put in order as weights are settled; add sequential: true")
        if self.permute and not any(hasattr(structure, "sparsity") for structure in self.structure):
            names = ", ".join(name_of("structure", structure) for structure in self.structure)
            raise SecateursError(f"recipe: an order of features helps n_m alone, and not {names}; drop permute")
        if self.compensate and self.solver is None:
            raise SecateursError("recipe: only a solver changes values such that they compensate; name one as solver")

    @property
    def calibrated(self) -> bool:
        """Whether criterion, solver or basis look at what data make of the network, and not at its weights alone."""
        return self.solver is not None or self.basis is not None or bool(self.needs - {"weight"})

    @property
    def uses_data(self) -> bool:
        """Whether these do, or the recovery."""
        return self.calibrated or self.recovery != Nothing()

    @property
    def needs(self) -> frozenset[Need]:
        """What the parts that decide need to know."""
        return self.criterion.needs | (self.chooser.needs if self.chooser else frozenset())

    def check(self, sparsity: float) -> None:
        """Refuse a sparsity that these parts cannot give, before any work is done.

        A structure that leaves no choice (N:M) says so by an attribute ``sparsity``. Then that sparsity must be the one
        asked for, and the allocation must be one that takes the same share of every layer.

        Raises:
            SecateursError: The sparsity is outside (0, 1), or contradicts a structure.
        """
        if not 0 < sparsity < 1:
            raise SecateursError(
                f"sparsity is the fraction removed and must lie between 0 and 1, such as 0.5; got {sparsity:g}"
            )
        for structure in self.structure:
            fixed = getattr(structure, "sparsity", None)
            if fixed is None:
                continue
            said = f"structure {name_of('structure', structure)} removes exactly {fixed:g} of every block"
            if abs(fixed - sparsity) > 1e-9:
                raise SecateursError(f"{said}, but sparsity {sparsity:g} was asked; ask for {fixed:g}")
            if not is_even(self.allocation, fixed):
                name = name_of("allocation", self.allocation)
                raise SecateursError(f"{said}, but allocation {name} takes more from some layers; use uniform")

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> Recipe:
        """Build a recipe from plain values; the inverse of ``to_dict``.

        Raises:
            SecateursError: An unknown key, part or field (named with its near match), or a value of the wrong type.
        """
        if not isinstance(spec, Mapping):
            raise SecateursError(f"recipe: must be a mapping of keys to parts, got {brief(spec)}")
        check_names("recipe", "key", spec, fields(cls))
        values = {axis: part(axis, spec[axis]) for axis in _SINGLE if axis in spec}
        structures = spec["structure"] if isinstance(spec["structure"], list | tuple) else [spec["structure"]]
        values["structure"] = tuple(part("structure", structure) for structure in structures)
        if "calibration_batches" in spec:
            values["calibration_batches"] = fit("recipe", "calibration_batches", spec["calibration_batches"], int)
        for switch in ("rewrite", "sequential", "compensate", "permute"):
            if switch in spec:
                values[switch] = fit("recipe", switch, spec[switch], bool)
        for optional in _OPTIONAL:
            if spec.get(optional) is not None:
                values[optional] = part(optional, spec[optional])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that say everything, defaults included: they hold when a later version changes a default."""
        optional = {axis: getattr(self, axis) for axis in _OPTIONAL}
        return {
            "structure": [describe("structure", part) for part in self.structure],
            **{axis: describe(axis, getattr(self, axis)) for axis in _SINGLE},
            "calibration_batches": self.calibration_batches,
            "rewrite": self.rewrite,
            "sequential": self.sequential,
            "compensate": self.compensate,
            "permute": self.permute,
            **{axis: None if part is None else describe(axis, part) for axis, part in optional.items()},
        }

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """Build a recipe from YAML text.

        Raises:
            SecateursError: As ``from_dict``, and where the text is no YAML or gives a key twice.
        """
        try:
            spec = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" in line {mark.line + 1}" if mark else ""
            raise SecateursError(f"recipe: no valid YAML{where}: {getattr(error, 'problem', error)}") from error
        return cls.from_dict(spec)

    def to_yaml(self) -> str:
        """The recipe as YAML text; ``from_yaml`` gives an equal recipe."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


def load_recipe(name: str | Path) -> Recipe:
    """Load a shipped recipe by its name, or a recipe file by its path.

    Raises:
        SecateursError: There is no such recipe, or it cannot be read.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            return Recipe.from_yaml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SecateursError(f"recipe {path}: cannot be read: {error}") from error
    if str(name) not in recipe_names():
        raise SecateursError(unknown("recipe", str(name), recipe_names()) + ", or give the path of a .yaml file")
    return Recipe.from_yaml(_shipped().joinpath(f"{name}.yaml").read_text(encoding="utf-8"))


def recipe_names() -> tuple[str, ...]:
    """Names of the shipped recipes."""
    return tuple(sorted(f.name.removesuffix(".yaml") for f in _shipped().iterdir() if f.name.endswith(".yaml")))


def _shipped() -> Any:
    return resources.files("secateurs").joinpath("recipes")


def is_even(allocation: Allocation, sparsity: float) -> bool:
    """Whether an allocation keeps the same share of two layers of which one scores far below the other, or otherwise.

    Args:
        allocation: Any.
        sparsity: That it is asked for.
    """
    block = 64 * Fraction(sparsity).limit_denominator(1024).denominator
    groups = tuple(Group(name, 2 * block, (), block) for name in ("low", "high"))
    price, units = Price.linear(groups, {g.name: 1.0 for g in groups}), torch.arange(2.0 * block) + 1
    others = (units + 1000, units.square(), units.sqrt())
    counts = [allocation(groups, {"low": units, "high": other}, sparsity, price) for other in others]
    return all(count["low"] == count["high"] for count in counts)


class _Loader(yaml.SafeLoader):
    """YAML as people write it: a key given twice is refused, and 1e-3 is a number, as in YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key given twice."""
        keys = [key.value for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
