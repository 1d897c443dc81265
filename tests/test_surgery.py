from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from networks import groups_of, trained_
from secateurs.graph import trace
from secateurs.graph.trace import state
from secateurs.surgery import (
    UnprovenError,
    _trials,
    mask_,
    positions,
    provable,
    scatter_,
    shrink,
    sizes_after,
    small_masks,
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


class Stubborn(nn.Module):
    """A size that is written in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 6)
        self.b = nn.Linear(6, 6)
        self.c = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)).view(-1, 6))))


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


def test_a_size_written_in_the_code_freezes_the_dim_and_no_other() -> None:
    model, inputs = trained_(Stubborn()), (torch.randn(3, 4),)
    network = trace(model, inputs)
    passed, reasons = provable(model, groups_of(network), network, inputs)
    assert [group.name for group in passed] == ["b.neurons"]
    assert "out of reach" in reasons["a.neurons"]
    broken = [group for group in groups_of(network) if group.name == "a.neurons"]
    with pytest.raises(UnprovenError, match="does not run"):
        shrink(model, broken, Plan({"a.neurons": torch.tensor([False] + [True] * 5)}), network, inputs)


def test_a_network_that_computes_something_else_is_caught() -> None:
    class Counting(nn.Module):
        """Divides by how many there are: what the masked one counts, the small one does not."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.a(x))
            return self.b(h / h.shape[1])

    model, inputs = trained_(Counting()), (torch.randn(3, 4),)
    network = trace(model, inputs)
    passed, reasons = provable(model, groups_of(network), network, inputs)
    assert not passed
    assert "differs from the masked one" in reasons["a.neurons"]


def test_masks_of_single_weights_follow_the_shapes_of_the_small_network() -> None:
    model = trained_(Net())
    network = trace(model, IMAGES)
    weight = Group("hidden.weight", 5 * 24, (Member("hidden.weight", (0, 1)),), 5 * 24)
    groups = (*groups_of(network), weight)
    plan = plan_of(groups)
    shrunk = shrink(model, groups, plan, network, IMAGES).model
    masks = small_masks(model, groups, plan)
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


def test_half_precision_is_proven_and_stays_half() -> None:
    model, inputs = trained_(Net()).to(torch.bfloat16), (IMAGES[0].to(torch.bfloat16),)
    network = trace(model, inputs)
    groups = groups_of(network)
    shrunk = shrink(model, groups, plan_of(groups), network, inputs).model
    assert {p.dtype for p in shrunk.parameters()} == {torch.bfloat16}


# ---------------------------------------------------------------------------------------------------- the proof


class Returning(nn.Module):
    """What a hidden layer scaled by its own size gives, in the form asked for: masked and shrunk always differ."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.form = form
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Any:
        h = torch.relu(self.a(x))
        return self.form(self.b(h * h.shape[1] ** 0.5))


@dataclass
class Answer:
    logits: Tensor


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        (lambda y: {"logits": [y, (y + 1,)]}, "differs from the masked one"),
        (Answer, "differs from the masked one"),
        (lambda y: torch.complex(y, -y), "differs from the masked one"),
        (lambda y: y.bfloat16(), "differs from the masked one"),
        (lambda y: (100 * y).long(), "picks other positions than the masked one"),
        (lambda y: y > y.mean(), ""),
    ],
)
def test_whatever_a_network_returns_is_compared(form: Callable[[Tensor], Any], problem: str) -> None:
    model, inputs = trained_(Returning(form)), (torch.randn(3, 4),)
    network = trace(model, inputs)
    _, reasons = provable(model, groups_of(network), network, inputs)
    assert problem in reasons.get("a.neurons", "")


def test_rounding_to_half_precision_hides_nothing() -> None:
    model, inputs = trained_(Returning(lambda y: y)).bfloat16(), (torch.randn(3, 4).bfloat16(),)
    network = trace(model, inputs)
    passed, reasons = provable(model, groups_of(network), network, inputs)
    assert not passed
    assert "differs from the masked one" in reasons["a.neurons"]


def test_a_precision_written_into_the_code_is_proven_in_that_one() -> None:
    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(self.a(x.bfloat16())))

    model, inputs = trained_(Halved()).bfloat16(), (torch.randn(3, 4),)
    network = trace(model, inputs)
    groups = groups_of(network)
    small = shrink(model, groups, plan_of(groups), network, inputs).model
    assert small.a.weight.dtype == torch.bfloat16
    assert small.a.out_features < 6


def test_a_tensor_too_few_is_a_difference() -> None:
    class Telling(nn.Module):
        """Returns what it has hidden only where that is whole."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> list[Tensor]:
            h = torch.relu(self.a(x))
            return [self.b(h)] * (2 if h.shape[1] == 6 else 1)

    model, inputs = trained_(Telling()), (torch.randn(3, 4),)
    network = trace(model, inputs)
    _, reasons = provable(model, groups_of(network), network, inputs)
    assert "another number of tensors" in reasons["a.neurons"]


# ------------------------------------------------------------------------------------------- provable together


def test_a_size_that_python_shares_between_two_dims_frees_neither() -> None:
    """Both could lose the same number of units, but a plan need not."""

    class Sharing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = 6
            self.a, self.b = nn.Linear(4, self.hidden), nn.Linear(self.hidden, self.hidden)
            self.c, self.d = nn.Linear(self.hidden, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.a(x)).view(-1, self.hidden)
            x = torch.relu(self.b(x)).view(-1, self.hidden)
            return self.d(torch.relu(self.c(x)))

    model, inputs = trained_(Sharing()), (torch.randn(3, 4),)
    network = trace(model, inputs)
    passed, reasons = provable(model, groups_of(network), network, inputs)
    assert [group.name for group in passed] == ["c.neurons"]
    assert set(reasons) == {"a.neurons", "b.neurons"}
    assert all("out of reach" in reason for reason in reasons.values())


def test_of_two_that_do_not_fit_beside_each_other_the_first_stays() -> None:
    class Choosy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            first = torch.relu(self.a(x))
            second = torch.relu(self.b(first))
            if first.shape[1] < 6 and second.shape[1] < 8:
                raise ValueError("one of both only")
            return self.c(second)

    model, inputs = trained_(Choosy()), (torch.randn(3, 4),)
    network = trace(model, inputs)
    passed, reasons = provable(model, groups_of(network), network, inputs)
    assert [group.name for group in passed] == ["a.neurons"]
    assert "one of both only" in reasons["b.neurons"]


def test_groups_that_are_only_masked_need_no_proof() -> None:
    model, inputs = trained_(Stubborn()), (torch.randn(3, 4),)
    network = trace(model, inputs)
    weight = Group("a.weight", 24, (Member("a.weight", (0, 1)),), 24)
    assert provable(model, (weight,), network, inputs) == ((weight,), {})


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), min_size=1, max_size=6))
def test_the_plans_of_the_proof_drop_something_everywhere_and_leave_something(sizes: list[tuple[int, int]]) -> None:
    groups = [Group(str(i), blocks * block, (), block, ("",)) for i, (blocks, block) in enumerate(sizes)]
    plans = list(_trials(groups))
    for group in groups:
        kept = [plan.keep[group.name].reshape(-1, group.block).sum(1) for plan in plans]
        assert all(len(set(counts.tolist())) == 1 and int(counts[0]) >= 1 for counts in kept)
        assert group.block == 1 or any(int(counts[0]) < group.block for counts in kept)
    for first, second in pairwise(groups):
        if first.block == second.block > 1:
            assert any(
                plan.keep[first.name].sum() * second.n_blocks != plan.keep[second.name].sum() * first.n_blocks
                for plan in plans
            )


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
