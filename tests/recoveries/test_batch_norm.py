from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from secateurs.recoveries.batch_norm import BatchNorm
from secateurs.types import SecateursError, Task

MakeTask = Callable[..., Task]


def batches(n: int, size: int = 32) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.randn(size, 6) * (i + 1) + i, torch.randint(0, 2, (size,))) for i in range(n)]


def test_statistics_are_plain_averages_over_the_batches(network: nn.Module, make_task: MakeTask) -> None:
    data = batches(5)
    BatchNorm(batches=3)(network, {}, make_task(data))
    with torch.no_grad():
        seen = [network[0](points) for points, _ in data[:3]]
    torch.testing.assert_close(network[1].running_mean, torch.stack([s.mean(0) for s in seen]).mean(0))
    torch.testing.assert_close(network[1].running_var, torch.stack([s.var(0) for s in seen]).mean(0))
    assert network[1].num_batches_tracked == 3


def test_no_weight_and_no_momentum_changes(network: nn.Module, make_task: MakeTask) -> None:
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    BatchNorm()(network, {}, make_task())
    assert all(torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())
    assert network[1].momentum == 0.1
    assert all(parameter.grad is None for parameter in network.parameters())


def test_heals_a_network_whose_activations_have_moved(network: nn.Module, make_task: MakeTask) -> None:
    task = make_task(batches(8))
    BatchNorm()(network, {}, task)
    network.eval()
    with torch.no_grad():
        before = network(torch.ones(4, 6))
        network[0].weight.mul_(0.5)
        network[0].bias.mul_(0.5)
        moved = network(torch.ones(4, 6))
        BatchNorm()(network, {}, task)
        healed = network(torch.ones(4, 6))
    assert (healed - before).abs().max() < 0.01 * (moved - before).abs().max()


def test_norms_without_running_statistics_are_left_alone(make_task: MakeTask) -> None:
    plain = nn.Sequential(
        nn.Linear(6, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.LayerNorm(4), nn.Linear(4, 2)
    )

    class Unread:
        def __iter__(self) -> None:
            raise AssertionError("there was nothing to gather")

    BatchNorm()(plain, {}, make_task(Unread()))


def test_only_norms_are_in_train_mode(network: nn.Module, make_task: MakeTask) -> None:
    network.add_module("probe", _Probe())
    BatchNorm(batches=1)(network.train(), {}, make_task())
    assert network.probe.seen == [False]
    assert network.probe.training


class _Probe(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bool] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(self.training)
        return x


def test_momentum_comes_back_when_the_loss_fails(network: nn.Module, make_task: MakeTask) -> None:
    with pytest.raises(RuntimeError):
        BatchNorm()(network, {}, make_task([(torch.randn(4, 5), torch.zeros(4).long())]))
    assert network[1].momentum == 0.1


def test_bad_input(network: nn.Module, make_task: MakeTask) -> None:
    with pytest.raises(SecateursError, match="batches must be at least 1, got 0"):
        BatchNorm(batches=0)
    mean = network[1].running_mean.clone()
    with pytest.raises(SecateursError, match="train split of task 'clouds' is empty"):
        BatchNorm()(network, {}, make_task([]))
    assert torch.equal(network[1].running_mean, mean)
