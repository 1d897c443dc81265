"""The bound, in both directions, and what the data behind it can show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
from torch import nn

from secateurs.measures.accuracy import Accuracy
from secateurs.measures.loss import Loss
from secateurs.search.bound import Bound, check_epsilon, names_split, on_split
from secateurs.types import Reading, SecateursError, Task


def reading(value: float, samples: int | None = 100, unit: str = "1") -> Reading:
    return Reading("accuracy", value, unit, "measured", samples=samples)


@pytest.mark.parametrize("epsilon", [-0.1, 1.0, 1.5, float("nan")])
def test_epsilon_outside_its_range(epsilon: float) -> None:
    with pytest.raises(SecateursError, match=rf"epsilon must be in \[0, 1\), got {epsilon:g}"):
        check_epsilon(epsilon)


def test_where_less_is_better_epsilon_may_be_large(net: nn.Module, tasks: Callable[..., Task]) -> None:
    assert Bound.of(net, tasks(Loss()), 2.0, "select").epsilon == 2.0
    with pytest.raises(SecateursError, match=r"in \[0, 1\), got 2"):
        Bound.of(net, tasks(Accuracy()), 2.0, "select")
    with pytest.raises(SecateursError, match=r"in \[0, inf\), got inf"):
        check_epsilon(float("inf"), float("inf"))


@pytest.mark.parametrize(("value", "holds"), [(0.95, True), (0.9501, True), (0.9499, False), (float("nan"), False)])
def test_higher_is_better(task: Task, value: float, holds: bool) -> None:
    bound = Bound(task, 0.01, "select", reading(0.96))
    why = bound.broken(reading(value))
    assert (why is None) is holds
    assert why is None or "below 0.9500" in why


@pytest.mark.parametrize(("value", "holds"), [(0.31, True), (0.3, True), (0.32, False), (float("inf"), False)])
def test_lower_is_better_is_mirrored(tasks: Callable[..., Task], value: float, holds: bool) -> None:
    bound = Bound(tasks(Loss()), 0.01, "select", reading(0.30))
    assert (bound.broken(reading(value)) is None) is holds
    assert bound.limit == pytest.approx(0.31)


def test_each_bound_reads_its_split(net: nn.Module, task: Task) -> None:
    select = Bound.of(net, task, 0.0, "select").dense
    assert select == Accuracy("select")(net, task) != Accuracy("final")(net, task)
    assert Bound.of(net, task, 0.0, "final").dense == Accuracy("final")(net, task)


def test_a_dense_network_without_a_number_has_no_bound(net: nn.Module, tasks: Callable[..., Task]) -> None:
    with pytest.raises(SecateursError, match="no bound"):
        Bound.of(net, tasks(Own(float("nan"))), 0.1, "select")


@dataclass(frozen=True)
class Own:
    value: float
    higher_is_better: ClassVar[bool] = True

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        return reading(self.value)


def test_a_measure_without_splits_stays_as_it_is() -> None:
    own = Own(1.0)
    assert on_split(own, "select") is own and not names_split(own)
    assert on_split(Accuracy("final"), "select") == Accuracy("select") and names_split(Accuracy())


@pytest.mark.parametrize(
    ("epsilon", "samples", "doubted"), [(0.0005, 872, True), (0.01, 872, False), (0.0, 10, True), (0.01, None, False)]
)
def test_epsilon_below_one_example_is_doubted(task: Task, epsilon: float, samples: int | None, doubted: bool) -> None:
    doubt = Bound(task, epsilon, "final", reading(0.9, samples)).doubt()
    assert (doubt is not None) is doubted
    assert doubt is None or ("872 examples" in doubt and "'final'" in doubt) or samples == 10


def test_a_loss_has_no_resolution(tasks: Callable[..., Task]) -> None:
    assert Bound(tasks(Loss()), 0.0001, "final", reading(0.3)).doubt() is None
