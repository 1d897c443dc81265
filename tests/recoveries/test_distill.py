from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateurs.recoveries.distill import Distill
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


@pytest.mark.parametrize(("field", "value"), [("temperature", 0.0), ("share", 0.0), ("share", 1.5), ("epochs", -1.0)])
def test_fields_outside_their_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(SecateursError, match=field):
        Distill(**{field: value})


def test_no_teacher_is_an_error_that_says_so(network: nn.Module, make_task: MakeTask) -> None:
    with pytest.raises(SecateursError, match="no dense network"):
        Distill()(network, {}, make_task())
