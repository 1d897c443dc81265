from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from secateurs.recipe import part, part_names
from secateurs.testing import check_allocation, check_chooser, check_criterion, check_schedule
from secateurs.types import Need, Rows

BY_CHANCE = {"random"}


@pytest.mark.parametrize("name", part_names("criterion"))
def test_every_criterion(name: str) -> None:
    check_criterion(part("criterion", name), equivariant=name not in BY_CHANCE)


@pytest.mark.parametrize("name", part_names("chooser"))
def test_every_chooser(name: str) -> None:
    check_chooser(part("chooser", name))


@pytest.mark.parametrize("name", part_names("allocation"))
def test_every_allocation(name: str) -> None:
    check_allocation(part("allocation", name))


@pytest.mark.parametrize("normalise", ["mean", "l2"])
@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_global_rank_with_other_fields(normalise: str, floor: float) -> None:
    check_allocation(part("allocation", {"global_rank": {"normalise": normalise, "floor": floor}}))


@pytest.mark.parametrize("name", part_names("schedule"))
def test_every_schedule(name: str) -> None:
    check_schedule(part("schedule", name))


# ---------------------------------------------------------------------------------------- what must be caught


@dataclass(frozen=True)
class Criterion:
    fault: str = ""

    needs: ClassVar[frozenset[str]] = frozenset({"weight"})

    def __call__(self, rows: Any) -> Tensor:
        score: Tensor = rows[0].weight.abs().sum(dim=1)
        if self.fault == "changes":
            rows[0].weight.add_(1)
        faults: dict[str, Callable[[], Tensor]] = {
            "shape": lambda: score[:-1],
            "integers": (10 * score).long,
            "infinite": lambda: score / 0,
            "chance": lambda: score + torch.rand(()),
            "order": lambda: score + torch.arange(len(score)),
            "dead": lambda: -score,
        }
        return faults.get(self.fault, lambda: score)()


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("shape", "gives shape"),
        ("integers", "gives no finite floats"),
        ("infinite", "gives no finite floats"),
        ("chance", "gives other scores the second time"),
        ("changes", "changes the rows"),
        ("order", "scores units by where they stand"),
        ("dead", "does not rank a unit whose weights are all zero lowest"),
    ],
)
def test_a_criterion_with_a_fault_is_caught(fault: str, line: str) -> None:
    check_criterion(Criterion())  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=line if fault != "changes" else "second time|changes the rows"):
        check_criterion(Criterion(fault))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Greedy:
    fault: str = ""

    calls: ClassVar[Iterator[int]] = itertools.count()

    currency: ClassVar[str] = "units"

    def __call__(self, groups: Any, scores: Any, sparsity: float, costs: Any) -> dict[str, int]:
        share = {"less": sparsity / 2, "more": min(0.95, 2 * sparsity), "falls": 0.6 - sparsity}.get(
            self.fault, sparsity
        )
        counts = {g.name: max(0 if self.fault == "empty" else 1, int((1 - share) * g.block)) for g in groups}
        if self.fault != "odd":
            counts = {g.name: counts[g.name] // g.multiple * g.multiple or counts[g.name] for g in groups}
        if self.fault == "unlike" and sparsity and groups[-1].alike:
            counts[groups[-1].name] -= groups[-1].multiple
        if self.fault == "empty" and sparsity:
            counts["g0"] = 0
        if self.fault == "forgets":
            counts.pop("g0")
        if self.fault == "chance" and sparsity == 0.5:
            counts["g0"] -= next(self.calls) % 2
        if self.fault == "changes":
            scores["g0"][0] += 1
        return counts


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("less", "which removes .* asked for"),
        ("more", "which removes .* where"),
        ("falls", "which removes|keeps more somewhere"),
        ("empty", "empties or overfills"),
        ("forgets", "not one count for each group"),
        ("chance", "other counts the second time|keeps more"),
        ("changes", "changes the scores"),
        ("odd", "no multiple of 4"),
        ("unlike", "different shares in groups alike"),
    ],
)
def test_an_allocation_with_a_fault_is_caught(fault: str, line: str) -> None:
    check_allocation(Greedy())
    with pytest.raises(AssertionError, match=line):
        check_allocation(Greedy(fault))


@dataclass(frozen=True)
class Steps:
    fault: str = ""

    def __call__(self, sparsity: float, start: float = 0.0) -> tuple[float, ...]:
        middle = (start + sparsity) / 2
        return {"short": (middle,), "back": (middle, start, sparsity), "none": (), "still": (start, sparsity)}.get(
            self.fault, (middle, sparsity)
        )


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("short", "does not end on the target"),
        ("none", "does not end on the target"),
        ("back", "does not rise"),
        ("still", "does not rise"),
    ],
)
def test_a_schedule_with_a_fault_is_caught(fault: str, line: str) -> None:
    check_schedule(Steps())
    with pytest.raises(AssertionError, match=line):
        check_schedule(Steps(fault))


@dataclass(frozen=True)
class Picker:
    fault: str = ""

    needs: ClassVar[frozenset[Need]] = frozenset({"weight"})

    def __call__(self, rows: Sequence[Rows], scores: Tensor, block: int, kept: int) -> Tensor:
        if self.fault == "second":
            scores = torch.where(scores.isinf(), scores, torch.rand(len(scores)))
        if self.fault == "back":
            scores = torch.arange(len(scores), 0, -1)
        order = scores.view(-1, block).argsort(descending=True)[:, : kept - (self.fault == "number")]
        keep = torch.zeros(len(scores) // block, block, dtype=torch.bool).scatter_(1, order, True).flatten()
        if self.fault == "changes":
            rows[0].weight.add_(1)
        return keep.float() if self.fault == "bool" else keep


@pytest.mark.parametrize("fault", ["", "second", "back", "number", "changes", "bool"])
def test_a_chooser_with_a_fault_is_caught(fault: str) -> None:
    if not fault:
        check_chooser(Picker())
        return
    with pytest.raises(AssertionError, match=fault):
        check_chooser(Picker(fault))
