from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateurs.recoveries.fine_tune import Best, FineTune, Progress
from secateurs.types import SecateursError, Task

MakeTask = Callable[..., Task]


def mean_loss(model: nn.Module, task: Task) -> float:
    model.eval()
    with torch.no_grad():
        losses = [task.loss(model, batch).item() for batch in task.splits["train"]]
    return sum(losses) / len(losses)


# -------------------------------------------------------------------------------------------------------- training


def test_it_learns(network: nn.Module, make_task: MakeTask) -> None:
    task = make_task()
    before = mean_loss(network, task)
    FineTune(epochs=5, learning_rate=1e-2)(network, {}, task)
    assert mean_loss(network, task) < 0.5 * before


@pytest.mark.parametrize(("epochs", "steps"), [(0.01, 1), (0.5, 8), (1, 16), (2.25, 36)])
def test_epochs_may_be_fractions(epochs: float, steps: int, network: nn.Module, make_task: MakeTask) -> None:
    counted = Counting(make_task())
    FineTune(epochs=epochs, tolerance=0, patience=1000)(network, {}, counted.task)
    assert counted.steps == steps


def test_a_destructive_learning_rate_never_makes_it_worse(network: nn.Module, make_task: MakeTask) -> None:
    task = make_task(list(make_task().splits["train"]))
    FineTune(epochs=8, learning_rate=1e-2)(network, {}, task)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    FineTune(epochs=2, learning_rate=1e4, clip=1e9)(network, {}, task)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_loss_that_is_not_finite_ends_it_with_the_best_weights(
    network: nn.Module, make_task: MakeTask, caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def broken(model: nn.Module, batch: Any) -> Tensor:
        return task.loss(model, batch) * (float("nan") if model.training else 1.0)

    FineTune()(network, {}, Task("t", (), task.splits, broken, task.predict, task.quality))
    assert "loss is nan at step 1" in caplog.text
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_parameters())


def test_it_stops_once_converged(make_task: MakeTask, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "secateurs.recoveries")
    counted = Counting(make_task())
    FineTune(epochs=50, learning_rate=1e-12, patience=2, evaluations=4, warmup=0)(nn.Linear(6, 2), {}, counted.task)
    assert counted.steps == 8
    assert "converged after 8 of 800 steps" in caplog.text


def test_it_does_not_stop_while_warming_up(make_task: MakeTask) -> None:
    counted = Counting(make_task())
    FineTune(epochs=2, learning_rate=1e-12, patience=2, evaluations=4, warmup=0.5)(nn.Linear(6, 2), {}, counted.task)
    assert counted.steps == 24


def test_vectors_are_spared_from_decay(network: nn.Module) -> None:
    groups = FineTune(weight_decay=0.5)._optimiser(network).param_groups
    decayed = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decayed == {id(p): 0.5 if p.dim() >= 2 else 0.0 for p in network.parameters()}


def test_a_split_without_a_length_is_counted(make_task: MakeTask) -> None:
    counted = Counting(make_task(_Lengthless(list(make_task().splits["train"]))))
    FineTune(epochs=2, tolerance=0, patience=1000)(nn.Linear(6, 2), {}, counted.task)
    assert counted.steps == 32


def test_the_learning_rate_rises_and_falls() -> None:
    linear, cosine = (FineTune(warmup=0.2, decay=d)._factor(100) for d in ("linear", "cosine"))
    for factor in (linear, cosine):
        values = [factor(step) for step in range(100)]
        assert values[:20] == sorted(values[:20])
        assert values[20:] == sorted(values[20:], reverse=True)
        assert values[20] == 1.0 == max(values)
        assert 0 < values[0] < 0.06
        assert 0 < values[-1] < 0.03
    assert linear(60) == pytest.approx(0.5)
    assert cosine(40) == pytest.approx(0.5 + 0.25 * 2**0.5)


def test_l1_draws_matrices_towards_zero_and_spares_vectors(network: nn.Module, make_task: MakeTask) -> None:
    def sizes(l1: float) -> tuple[float, float]:
        model = copy.deepcopy(network)
        FineTune(epochs=5, learning_rate=1e-2, weight_decay=0, l1=l1)(model, {}, make_task())
        return tuple(
            sum(float(p.detach().abs().sum()) for p in model.parameters() if (p.dim() >= 2) is matrix)
            for matrix in (True, False)
        )

    (free, vectors), (drawn, spared) = sizes(0.0), sizes(3e-2)
    assert drawn < 0.6 * free
    assert spared > 0.5 * vectors


def test_masked_gradients_do_not_count_in_the_clipped_norm(make_task: MakeTask) -> None:
    """Garbage in a dropped column must not slow the surviving ones down."""
    torch.manual_seed(0)
    data = [(torch.randn(8, 6), torch.randint(0, 2, (8,))) for _ in range(8)]
    loud = [(torch.cat([points[:, :5], 1e6 * points[:, 5:]], 1), labels) for points, labels in data]
    keep = torch.tensor([[True] * 5 + [False]])
    ends = []
    for train in (data, loud):
        torch.manual_seed(0)
        model = nn.Linear(6, 2)
        FineTune(epochs=2, learning_rate=1e-2, clip=0.1)(model, {"weight": keep}, make_task(train))
        ends.append(model.weight.detach())
    assert torch.equal(ends[0], ends[1])
    assert not ends[0][:, 5].any()


def test_a_tied_tensor_is_found_under_either_name(make_task: MakeTask) -> None:
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 6, bias=False), nn.Linear(6, 2))
    model[2].weight = model[0].weight
    keep = torch.ones(6, 1, dtype=torch.bool)
    keep[2] = False
    FineTune(learning_rate=1e-2)(model, {"2.weight": keep}, make_task())
    assert not model[0].weight[2].any()


def test_progress_is_logged_at_most_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "secateurs.recoveries")
    progress = Progress(1000)
    for step in range(1, 50):
        progress(step, 1.0)
    assert len(caplog.records) == 1
    assert "step 1/1000 loss 1.0000" in caplog.text


# -------------------------------------------------------------------------------------------------------- best


def test_best_keeps_the_lowest_loss() -> None:
    model = nn.Linear(1, 1, bias=False)
    best = Best(model)
    for weight, loss in ((3.0, 1.0), (4.0, 0.5), (5.0, float("nan")), (6.0, 0.5)):
        with torch.no_grad():
            model.weight.fill_(weight)
        best.offer(loss)
    best.restore_()
    assert model.weight.item() == 4.0


@pytest.mark.parametrize(
    ("losses", "converged"),
    [
        ([0.9, 0.9], False),
        ([1, 0.9, 0.9, 0.8995], True),
        ([1, 0.9, 0.9, 0.8], False),
        ([1, 1, 2, 3], False),
        ([math.nan, math.nan, math.nan], False),
    ],
)
def test_convergence(losses: list[float], converged: bool) -> None:
    best = Best(nn.Linear(1, 1))
    for loss in losses:
        best.offer(loss)
    assert best.converged(patience=2, tolerance=1e-3) is converged


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "field",
    [
        {"epochs": 0},
        {"learning_rate": -1e-4},
        {"l1": -1.0},
        {"weight_decay": -1},
        {"warmup": 1.0},
        {"decay": "step"},
        {"clip": 0},
        {"validation_fraction": 0},
        {"evaluations": 0},
        {"patience": 0},
        {"tolerance": 1.0},
    ],
    ids=lambda field: next(iter(field)),
)
def test_fields_are_checked(field: dict[str, Any]) -> None:
    name, value = next(iter(field.items()))
    with pytest.raises(SecateursError, match=f"^fine_tune: {name} must be .*, got {value}$"):
        FineTune(**field)


def test_bad_input(network: nn.Module, make_task: MakeTask) -> None:
    with pytest.raises(SecateursError, match="train split of task 'clouds' is empty"):
        FineTune()(network, {}, make_task([]))
    with pytest.raises(SecateursError, match=r"'no\.weight', which the model does not have"):
        FineTune()(network, {"no.weight": torch.ones(1, dtype=torch.bool)}, make_task())
    with pytest.raises(SecateursError, match="no parameter of the model requires a gradient"):
        FineTune()(network.requires_grad_(False), {}, make_task())


# -------------------------------------------------------------------------------------------------------- helpers


class Counting:
    """A task that counts the losses taken in train mode."""

    def __init__(self, task: Task) -> None:
        self.steps = 0

        def loss(model: nn.Module, batch: Any) -> Tensor:
            self.steps += model.training
            return task.loss(model, batch)

        self.task = Task(task.name, task.example_inputs, task.splits, loss, task.predict, task.quality)


class _Lengthless:
    """Batches in an iterable that does not say how many."""

    def __init__(self, batches: list[Any]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)
