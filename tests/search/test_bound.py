"""The bound, in both directions, and what the data behind it can show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from secateurs.measures.accuracy import Accuracy
from secateurs.measures.f1 import F1
from secateurs.measures.loss import Loss
from secateurs.search.bound import Bound, check_confidence, check_epsilon, names_split, on_split
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


# ------------------------------------------------------------------------------------------------------ with confidence


class Answers(nn.Module):
    """Says class 1 of the first so many examples, and class 0 of the others."""

    def __init__(self, ones: int) -> None:
        super().__init__()
        self.ones = ones

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot((torch.arange(len(x)) < self.ones).long(), 2).float()


def judged(task: Task, lost: int, epsilon: float, confidence: float, n: int = 1000) -> tuple[Reading, str | None]:
    """Of a dense network that is always right, and one that loses so many of n examples."""
    split = [(torch.zeros(n, 1), (torch.arange(n) < n // 2).long())]
    task = replace(task, splits={"select": split})
    dense = Answers(n // 2)
    bound = replace(Bound.of(dense, task, epsilon, "select"), model=dense, confidence=confidence)
    return bound.judge(Answers(n // 2 - lost))


@pytest.mark.parametrize(
    ("lost", "by_value", "surely"), [(0, True, True), (4, True, True), (10, True, False), (11, False, False)]
)
@pytest.mark.parametrize("quality", [Accuracy(), F1()])
def test_a_bound_is_met_with_confidence(
    tasks: Callable[..., Task], quality: Accuracy | F1, lost: int, by_value: bool, surely: bool
) -> None:
    task = tasks(quality)
    found, why = judged(task, lost, 0.01, 0.5)
    assert found.value == pytest.approx(1 - lost / 1000, abs=1e-4) and found.samples == 1000
    assert (why is None) is by_value or quality == F1()  # macro F1 of eleven lost is a hair above
    found, why = judged(task, lost, 0.01, 0.95)
    assert (why is None) is surely
    assert why is None or "is below" in why or ("loss may be 0.01" in why and "95% sure, 1000 examples" in why)


def test_more_examples_show_more(task: Task) -> None:
    assert judged(task, 5, 0.01, 0.95, 800)[1] is not None
    assert judged(task, 50, 0.01, 0.95, 8000)[1] is None, "the same share, lost on ten times as many"


def test_what_both_get_wrong_is_no_noise(task: Task) -> None:
    split = [(torch.zeros(400, 1), torch.arange(400) % 2)]  # each network is right on half of them
    bound = Bound.of(Answers(200), replace(task, splits={"select": split}), 0.01, "select")
    assert replace(bound, model=Answers(200), confidence=0.99).judge(Answers(200))[1] is None


def test_a_measure_without_examples_decides_by_its_value(task: Task) -> None:
    own = replace(task, quality=Own(0.9))
    bound = Bound(own, 0.01, "select", reading(0.9), Answers(1), 0.95)
    assert bound.by_value and bound.judge(Answers(1)) == (reading(0.9), None)
    assert not Bound(task, 0.01, "select", reading(0.9), Answers(1), 0.95).by_value


def test_a_split_that_is_shuffled_is_read_in_one_order(net: nn.Module, task: Task) -> None:
    shuffled = replace(task, splits={**task.splits, "select": task.splits["train"]})
    bound = replace(Bound.of(net, shuffled, 0.001, "select"), model=net, confidence=0.95)
    for seed in range(3):
        torch.manual_seed(seed)
        assert bound.judge(net)[1] is None
    x, y = task.splits["train"].x, task.splits["train"].y  # type: ignore[attr-defined]
    turned = replace(bound, task=replace(task, splits={"select": Turning(x, y)}))
    with pytest.raises(SecateursError, match="shuffle train alone"):
        turned.judge(net)  # reads both networks, one after the other


class Turning:
    """Examples in another order each time, by a generator of its own."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y, self.generator = x, y, torch.Generator()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.x), generator=self.generator)
        yield self.x[order], self.y[order]


@pytest.mark.parametrize("confidence", [0.4, 1.0, float("nan")])
def test_confidence_outside_its_range(confidence: float) -> None:
    with pytest.raises(SecateursError, match=r"confidence must be in \[0.5, 1\)"):
        check_confidence(confidence)
