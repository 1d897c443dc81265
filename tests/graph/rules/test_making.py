"""Numbers that the code makes, one for each hidden number: frozen in Python's code, picked in the rewritten network."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from graph.rules.tracing import see
from networks import groups_of, trained_
from secateurs import surgery, trials
from secateurs.graph import recorded, trace
from secateurs.graph.constants import MADE
from secateurs.graph.trace import forward
from secateurs.program import Program, read_program, slots
from secateurs.types import Plan

Code = Callable[[Tensor], Tensor]

TOLD_APART: dict[str, Code] = {
    "counted": lambda h: h * torch.arange(1, 7),
    "a_literal": lambda h: h * torch.tensor([0.5, 0.1, 0.4, 0.2, 0.9, 0.7]),
    "linspace": lambda h: h + torch.linspace(0.5, 1, 6),
    "powers": lambda h: h * torch.pow(torch.full((), 0.7), torch.arange(1, 7)),
    "put_together": lambda h: h * torch.cat([torch.arange(1, 5) * 0.3, torch.arange(1, 5, 2) * 0.2]),
    "every_second": lambda h: h * torch.cat([torch.arange(8)[1::2], torch.arange(8)[::2]])[:6],
    "times_positions": lambda h: h * (torch.arange(1, 7) * torch.arange(1, 1 + h.shape[1])[:, None]).relu(),
    "twice": lambda h: (h * (it := torch.arange(1, 7)) + it).tanh() - it,
}


class Hidden(nn.Module):
    """Six hidden numbers, and code between."""

    def __init__(self, code: Code) -> None:
        super().__init__()
        self.a, self.code, self.b = nn.Linear(4, 6), code, nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.code(self.a(x)).relu())
        return y


class Layers(nn.Module):
    """The same numbers meet two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        numbers = torch.arange(1, 7)
        y: Tensor = self.c(self.b(self.a(x) * numbers) * numbers)
        return y


@pytest.mark.parametrize("name", TOLD_APART)
def test_python_would_make_others(name: str) -> None:
    assert trace(Hidden(TOLD_APART[name]), (torch.randn(2, 3, 4),)).dims["a.neurons"].frozen == MADE


@pytest.mark.parametrize("name", TOLD_APART)
def test_operators_pick_those_that_stay(name: str) -> None:
    model, inputs = trained_(Hidden(TOLD_APART[name])), (torch.randn(2, 3, 4),)
    graph = recorded(trace(model, inputs), model, inputs)
    groups = groups_of(graph)
    assert [(group.n_units, bool(group.members)) for group in groups] == [(6, True)]
    assert trials.provable(model, groups, graph, inputs) == (groups, {})
    plan = Plan({groups[0].name: torch.tensor([True, False, False, True, False, True])})
    small = surgery.shrink(model, groups, plan, graph, inputs).model
    assert isinstance(small, Program) and small.get_parameter("a.weight").shape == (3, 4)
    masked = copy.deepcopy(model)
    surgery.mask_(masked, groups, plan)
    again = read_program(json.loads(json.dumps(small.to_json())), {n: t for n, _, t in slots(small)}, {})
    for shape in ((1, 3, 4), (5, 7, 4)):
        fresh = (torch.randn(shape),)
        for mine in (small, again):
            assert torch.allclose(forward(mine, fresh)[0], forward(masked, fresh)[0], atol=1e-5)


def test_one_value_everywhere_follows_any_size() -> None:
    graph = trace(Hidden(lambda h: h * torch.full((), 0.5) * torch.ones(3, 6)), (torch.randn(2, 3, 4),))
    assert graph.dims["a.neurons"].frozen is None


def test_copies_of_numbers_may_be_any_number() -> None:
    seen = see(
        lambda self, x: self.b(self.a(x) * torch.arange(3)[:, None].expand(3, self.a.out_features)),
        torch.randn(2, 3, 4),
        a=nn.Linear(4, 6),
        b=nn.Linear(6, 2),
    )
    assert seen.free("a.weight") == [6] and seen.proven() == ["a.neurons"]


def test_what_is_written_into_such_numbers_is_no_longer_made_from_nothing() -> None:
    """The hidden numbers go through a table that begins as a range; its axis is that of the hidden numbers."""

    def code(h: Tensor) -> Tensor:
        table = torch.arange(12.0).view(2, 6)
        table[0].copy_(h.mean((0, 1)))
        return h + table[0] * table[1]

    model, inputs = trained_(Hidden(code)), (torch.randn(2, 3, 4),)
    graph = trace(model, inputs)
    assert graph.dims["a.neurons"].frozen == MADE
    graph = recorded(graph, model, inputs)
    groups, reasons = trials.provable(model, groups_of(graph), graph, inputs)
    assert not groups or not reasons


def test_numbers_that_meet_each_layer_couple_none() -> None:
    model, inputs = Layers(), (torch.randn(2, 4),)
    assert len(groups_of(recorded(trace(model, inputs), model, inputs))) == 2
