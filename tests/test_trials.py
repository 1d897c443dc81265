from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from networks import groups_of, trained_
from secateurs.graph import trace
from secateurs.proof import UnprovenError
from secateurs.structures.neuron import Neuron
from secateurs.structures.width import Width
from secateurs.surgery import shrink
from secateurs.trials import nothing, plans, provable
from secateurs.types import Group, Member, Plan


class Stubborn(nn.Module):
    """A size that is written in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 6)
        self.b = nn.Linear(6, 6)
        self.c = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)).view(-1, 6))))


def test_a_size_written_in_the_code_freezes_the_dim_and_no_other() -> None:
    model, inputs = trained_(Stubborn()), (torch.randn(3, 4),)
    network = trace(model, inputs)
    passed, reasons = provable(model, groups_of(network), network, inputs)
    assert [group.name for group in passed] == ["b.neurons"]
    assert "out of reach" in reasons["a.neurons"]
    broken = [group for group in groups_of(network) if group.name == "a.neurons"]
    with pytest.raises(UnprovenError, match="does not run"):
        shrink(model, broken, Plan({"a.neurons": torch.tensor([False] + [True] * 5)}), network, inputs)


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
    found = list(plans(groups))
    for group in groups:
        kept = [plan.keep[group.name].reshape(-1, group.block).sum(1) for plan in found]
        assert all(len(set(counts.tolist())) == 1 and int(counts[0]) >= 1 for counts in kept)
        assert group.block == 1 or any(int(counts[0]) < group.block for counts in kept)
    for first, second in pairwise(groups):
        if first.block == second.block > 1:
            assert any(
                plan.keep[first.name].sum() * second.n_blocks != plan.keep[second.name].sum() * first.n_blocks
                for plan in found
            )


def test_one_plan_is_enough_for_large_blocks_and_leaves_odd_numbers() -> None:
    groups = [Group(str(i), 24, (), 12, ("",)) for i in range(7)]
    (plan,) = plans(groups)
    kept = [int(keep.sum()) // 2 for keep in plan.keep.values()]
    assert set(kept) == {7, 9, 11}
    assert all(one != other for one, other in pairwise(kept))
    assert len(list(plans([*groups, Group("few", 2, (), 2, ("",))]))) == 2


def test_what_finds_nothing_says_what_is_frozen() -> None:
    network = trace(trained_(nn.Linear(4, 2)), (torch.randn(3, 4),))
    said = str(nothing((Width(), Neuron()), network))
    assert said.startswith("nothing to prune: the network has no free dims for width, neuron; frozen is ")
    assert "output (an output of the model)" in said
