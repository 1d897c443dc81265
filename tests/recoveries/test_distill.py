from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateurs.recoveries.distill import Distill, _distance, _returns
from secateurs.types import Batch, SecateursError, Task

MakeTask = Callable[..., Task]


def outputs(network: nn.Module, task: Task) -> Tensor:
    network.eval()
    with torch.no_grad():
        return torch.cat([task.predict(network, batch)[0] for batch in task.splits["train"]])


def test_the_divergence_by_hand() -> None:
    # p' = softmax(0, ln 3) = (1/4, 3/4) at T = 1, p = (1/2, 1/2): KL = 1/4 ln 1/2 + 3/4 ln 3/2 = 0.1308
    wanted, got = torch.tensor([[0.0, 1.0986123]]), torch.zeros(1, 2)
    assert Distill(temperature=1.0)._divergence(got, wanted).item() == pytest.approx(0.130812, abs=1e-5)
    # At T = 2 the logits are halved and the divergence is weighed by 4.
    p = torch.softmax(wanted / 2, -1)
    by_hand = 4 * float((p * (p / 0.5).log()).sum())
    assert Distill(temperature=2.0)._divergence(got, wanted).item() == pytest.approx(by_hand, rel=1e-5)


def test_a_damaged_network_comes_back_to_the_dense_one_without_labels(network: nn.Module, make_task: MakeTask) -> None:
    task = make_task()

    def no_labels(model: nn.Module, batch: Batch) -> Tensor:
        raise AssertionError("the labels were read")

    dense = copy.deepcopy(network)
    with torch.no_grad():
        network[4].weight.add_(torch.randn(network[4].weight.shape))
    heal = Distill(epochs=8, learning_rate=1e-2, tolerance=0)
    before = heal._divergence(outputs(network, task), outputs(dense, task))
    heal(network, {}, replace(task, loss=no_labels), dense)
    after = heal._divergence(outputs(network, task), outputs(dense, task))
    assert after < 0.5 * before


def test_the_teacher_is_left_as_it_is(network: nn.Module, make_task: MakeTask) -> None:
    dense = copy.deepcopy(network).train()
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    Distill(share=0.5)(network, {}, make_task(), dense)
    assert all(module.training for module in dense.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in dense.state_dict().items())
    assert all(parameter.grad is None for parameter in dense.parameters())


@pytest.mark.parametrize(
    ("field", "value"), [("temperature", 0.0), ("share", 0.0), ("share", 1.5), ("hints", -1.0), ("epochs", -1.0)]
)
def test_fields_outside_their_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(SecateursError, match=field):
        Distill(**{field: value})


class Blocks(nn.Module):
    """Three blocks; the narrow one returns something less wide."""

    def __init__(self, narrow: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
        self.second = nn.Sequential(nn.Linear(6, narrow), nn.ReLU())
        self.third = nn.Sequential(nn.Sequential(nn.Linear(narrow, 3)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.third(self.second(self.first(x)))
        return out


def test_hints_are_what_blocks_of_one_width_return() -> None:
    dense, small, x = Blocks(5), Blocks(4), torch.randn(2, 6)
    with _returns(dense) as wanted, _returns(small) as got:
        (h, _, z), (mine, _, y) = ([f := net.first(x), s := net.second(f), net.third(s)] for net in (dense, small))
        by_hand = ((mine - h).square().sum() / h.square().sum() + (y - z).square().sum() / z.square().sum()) / 2
        assert wanted.keys() == {"first", "second", "third.0"}  # the third hands on what its child returned
        assert torch.allclose(_distance(got, wanted), by_hand)
    small(x)
    assert got["third.0"] is y


def test_hints_bring_the_blocks_back(make_task: MakeTask) -> None:
    dense, task = Blocks(5), make_task()
    damaged = copy.deepcopy(dense)
    with torch.no_grad():
        damaged.first[0].weight.add_(torch.randn(6, 6))

    def apart() -> float:
        with _returns(dense) as wanted, _returns(damaged) as got:
            outputs(dense, task), outputs(damaged, task)
            return float(_distance(got, wanted))

    before = apart()
    Distill(epochs=8, learning_rate=1e-2, tolerance=0, hints=10.0)(damaged, {}, task, dense)
    assert apart() < 0.5 * before


def test_no_block_of_one_width_is_an_error_that_says_so(make_task: MakeTask) -> None:
    flat = nn.Sequential(nn.Linear(6, 3))
    with pytest.raises(SecateursError, match=r"no block .* set hints to 0"):
        Distill(hints=1.0)(flat, {}, make_task(), copy.deepcopy(flat))


def test_no_teacher_is_an_error_that_says_so(network: nn.Module, make_task: MakeTask) -> None:
    with pytest.raises(SecateursError, match="no dense network"):
        Distill()(network, {}, make_task())
