from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from networks import groups_of, trained_
from secateurs.graph import trace
from secateurs.graph.trace import state
from secateurs.surgery import (
    mask_,
    positions,
    scatter_,
    shrink,
    sizes_after,
    small_masks,
    tried,
)
from secateurs.types import Group, Member, Plan


class Net(nn.Module):
    """Convolution, norm, flattening: a channel lives in nine places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.hidden = nn.Linear(6 * 4, 5)
        self.out = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
        return self.out(torch.relu(self.hidden(x)))


class Tied(nn.Module):
    """One matrix reads and writes."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 8)
        self.mix = nn.Linear(8, 8, bias=False)
        self.again = nn.Linear(8, 8, bias=False)
        self.again.weight = self.mix.weight
        self.down = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.again(torch.relu(self.mix(torch.relu(self.up(x)))))))


IMAGES = (torch.randn(3, 2, 8, 8),)


def plan_of(groups: tuple[Group, ...], seed: int = 0) -> Plan:
    generator = torch.Generator().manual_seed(seed)
    keep = {}
    for group in groups:
        kept = torch.rand(group.n_units, generator=generator) < 0.6
        kept[0] = True
        keep[group.name] = kept
    return Plan(keep)


def test_a_channel_is_zeroed_wherever_it_lives() -> None:
    model = trained_(Net())
    network = trace(model, IMAGES)
    groups = groups_of(network)
    keep = {"channels": torch.tensor([True, False, True, True, True, True])}
    name = next(group.name for group in groups if group.name.endswith("channels"))
    masks = mask_(model, groups, Plan({name: keep["channels"]}))
    assert set(masks) == {
        "conv.weight",
        "conv.bias",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "hidden.weight",
    }
    assert not model.conv.weight[1].any()
    assert model.norm.running_var[1] == 0
    assert not model.hidden.weight.reshape(5, 6, 4)[:, 1].any()
    assert model.hidden.weight.reshape(5, 6, 4)[:, 2].all()


def test_shrinking_counts_and_leaves_the_dense_network_alone() -> None:
    model = trained_(Net())
    before = {name: tensor.clone() for name, tensor in state(model)}
    network = trace(model, IMAGES)
    groups = groups_of(network)
    plan = plan_of(groups)
    shrunk = shrink(model, groups, plan, network, IMAGES)
    sizes = sizes_after(groups, plan, network)
    assert sum(p.numel() for p in shrunk.model.parameters()) == network.parameters(sizes) < network.parameters()
    assert shrunk.model.conv.out_channels == shrunk.model.norm.num_features == shrunk.model.conv.weight.shape[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in state(model))


@pytest.mark.parametrize("kept", [[0, 1, 2], [2, 4, 5]])
def test_the_small_network_has_memory_of_its_own_and_no_more_than_it_needs(kept: list[int]) -> None:
    model = trained_(Net())
    groups = groups_of(network := trace(model, IMAGES))
    plan = Plan({group.name: torch.isin(torch.arange(group.n_units), torch.tensor(kept)) for group in groups})
    small = shrink(model, groups, plan, network, IMAGES).model
    theirs = {tensor.untyped_storage().data_ptr() for _, tensor in state(model)}
    for _, tensor in state(small):
        assert tensor.untyped_storage().data_ptr() not in theirs
        assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_what_is_only_tried_lies_in_the_memory_of_the_dense_network() -> None:
    model = trained_(Net())
    before = {name: tensor.clone() for name, tensor in state(model)}
    groups = groups_of(network := trace(model, IMAGES))
    plan = Plan({group.name: torch.arange(group.n_units) > 1 for group in groups})
    small = tried(model, groups, plan, network, IMAGES).model
    assert small.conv.weight.data_ptr() == model.conv.weight[2:].data_ptr()
    assert small.norm.running_mean.data_ptr() != model.norm.running_mean[2:].data_ptr()
    assert all(torch.equal(before[name], tensor) for name, tensor in state(model))
    assert torch.equal(shrink(model, groups, plan, network, IMAGES).model(*IMAGES), small(*IMAGES))


@pytest.mark.parametrize("seed", range(5))
def test_scattering_the_small_network_gives_the_masked_one(seed: int) -> None:
    model = trained_(Net())
    network = trace(model, IMAGES)
    groups = groups_of(network)
    plan = plan_of(groups, seed)
    small = shrink(model, groups, plan, network, IMAGES).model
    other = trained_(Net())
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(9)
    scatter_(other, small, groups, plan)
    mask_(model, groups, plan)
    wanted = dict(state(model))
    for name, tensor in state(other):
        assert torch.equal(tensor, wanted[name]), name


def test_tied_weights_stay_tied_and_shrink_on_both_sides() -> None:
    model, inputs = trained_(Tied()), (torch.randn(3, 4),)
    network = trace(model, inputs)
    groups = groups_of(network)
    shrunk = shrink(model, groups, plan_of(groups), network, inputs).model
    assert shrunk.mix.weight is shrunk.again.weight
    assert shrunk.mix.weight.shape[0] == shrunk.mix.weight.shape[1] < 8


def test_masks_of_single_weights_follow_the_shapes_of_the_small_network() -> None:
    model = trained_(Net())
    network = trace(model, IMAGES)
    weight = Group("hidden.weight", 5 * 24, (Member("hidden.weight", (0, 1)),), 5 * 24)
    groups = (*groups_of(network), weight)
    plan = plan_of(groups)
    shrunk = shrink(model, groups, plan, network, IMAGES).model
    masks = small_masks(model, shrunk, groups, plan)
    assert set(masks) == {"hidden.weight"}
    assert masks["hidden.weight"].shape == shrunk.hidden.weight.shape
    assert not shrunk.hidden.weight[~masks["hidden.weight"]].any()


def test_positions_name_what_stays_in_order() -> None:
    model = trained_(Net())
    groups = groups_of(trace(model, IMAGES))
    name = next(group.name for group in groups if group.name.endswith("channels"))
    keep = torch.tensor([False, True, True, False, True, True])
    found = positions(model, groups, Plan({name: keep}))
    assert found["conv.weight", 0].tolist() == [1, 2, 4, 5]
    assert found["hidden.weight", 1].tolist() == [4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23]


def test_placed_back_a_direction_under_weight_norm_is_no_zero() -> None:
    norm = nn.utils.parametrizations.weight_norm
    model = nn.Sequential(norm(nn.Linear(4, 6)), nn.ReLU(), norm(nn.Linear(6, 5)), nn.ReLU(), nn.Linear(5, 2))
    inputs = (torch.randn(3, 4),)
    graph = trace(model, inputs)
    groups = groups_of(graph)
    plan = Plan({group.name: torch.arange(group.n_units) > 1 for group in groups})
    small = shrink(model, groups, plan, graph, inputs).model
    other = copy.deepcopy(model)
    scatter_(other, small, groups, plan)
    assert torch.allclose(other(*inputs), small(*inputs), atol=1e-6)
    mask_(model, groups, plan)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
