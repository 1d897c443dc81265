from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from secateurs import surgery
from secateurs.choosers.osscar import Osscar
from secateurs.choosing import Latest, choose
from secateurs.criteria.taylor import Taylor
from secateurs.graph import trace
from secateurs.prune import find_groups, rounds
from secateurs.recipe import Recipe
from secateurs.schedules.iterative import Iterative
from secateurs.structures.neuron import Neuron
from secateurs.structures.weight import Weight
from secateurs.testing import example_model, example_task
from secateurs.types import Facts, Need, Rows, SecateursError


@dataclass(frozen=True)
class Last:
    """Keeps the last units, or one too many."""

    too_many: int = 0

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient"})

    def __call__(self, rows: Sequence[Rows], scores: Tensor, block: int, kept: int) -> Tensor:
        assert rows[0].gradient is not None
        return torch.arange(len(scores)) >= len(scores) - kept - self.too_many


def test_the_chooser_decides_and_another_number_is_refused() -> None:
    model, task = example_model(), example_task()
    groups = find_groups(model, (Neuron(),), trace(model, task.example_inputs), task.example_inputs)
    wanted = ({g.name: torch.rand(g.n_units) for g in groups}, {g.name: 5 for g in groups})
    gradients = {name: p for name, p in model.named_parameters()}
    facts = Latest([Facts(), Facts(gradient=gradients)])
    plan = choose(Last(), model, groups, wanted, facts)
    assert [keep.nonzero().flatten().tolist() for keep in plan.keep.values()] == [[7, 8, 9, 10, 11]]
    best = choose(None, model, groups, wanted, facts)
    assert not torch.equal(*(torch.cat([*it.keep.values()]) for it in (plan, best)))
    with pytest.raises(SecateursError, match="keeps another number"):
        choose(Last(too_many=1), model, groups, wanted, facts)


def test_layers_and_single_weights_have_no_chooser() -> None:
    model, task = example_model(), example_task()
    (group, *_) = Weight()(trace(model, task.example_inputs))
    wanted = ({group.name: torch.rand(group.n_units)}, {group.name: 1})
    with pytest.raises(SecateursError, match="drop it from the recipe"):
        choose(Last(), model, [group], wanted, Latest([Facts()]))


def test_rounds_with_a_criterion_for_the_shares_and_a_chooser_for_the_units() -> None:
    model, task = example_model(24), example_task()
    recipe = Recipe((Neuron(),), Taylor(), schedule=Iterative(2), chooser=Osscar(), calibration_batches=3)
    one, two = rounds(model, task, recipe, 0.5)
    for name, kept in two.plan.keep.items():
        assert not (kept & ~one.plan.keep[name]).any(), "what was dropped came back"
    images = torch.randn(5, 1, 8, 8)
    assert torch.allclose(two.model.eval()(images), two.masked.eval()(images), atol=1e-5)
    assert surgery.masks(model, two.groups, two.plan)


def test_the_last_facts_stay_at_hand_however_far_they_were_looked_at() -> None:
    facts = [Facts(gradient={"a": torch.tensor(float(i))}) for i in range(3)]
    looked = Latest(facts)
    next(iter(looked))
    assert looked.last is facts[2] and looked.last is facts[2]
    assert Latest([]).last == Facts()
