"""Another order of features: the same network, and more kept of it by N:M."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from chained import CASES
from secateurs.allocations.uniform import Uniform
from secateurs.criteria.magnitude import Magnitude
from secateurs.criteria.ria import Ria
from secateurs.graph import trace
from secateurs.orders import best_order, orders
from secateurs.prune import prune
from secateurs.recipe import Recipe
from secateurs.settling import single_weights
from secateurs.solvers.sparsegpt import Sparsegpt
from secateurs.structures.n_m import NM
from secateurs.structures.weight import Weight
from secateurs.types import SecateursError, Task


def retained(scores: Tensor) -> float:
    return float(scores.view(len(scores), -1, 4).topk(2, dim=2).values.sum())


def test_columns_are_dealt_such_that_more_is_kept() -> None:
    torch.manual_seed(0)
    scores = torch.rand(6, 16) * torch.linspace(0.01, 1, 16) ** 2
    order = best_order(scores, 4, 2)
    assert sorted(order.tolist()) == list(range(16))
    assert retained(scores[:, order]) > 1.1 * retained(scores)


def test_it_is_the_best_order_of_few_columns() -> None:
    torch.manual_seed(1)
    scores = torch.rand(3, 4)
    order = best_order(scores, 2, 1)
    each = (scores[:, list(it)].view(3, 2, 2).amax(2).sum() for it in itertools.permutations(range(4)))
    torch.testing.assert_close(scores[:, order].view(3, 2, 2).amax(2).sum(), max(each))


def test_what_cannot_be_bettered_stays_as_it_is() -> None:
    scores = torch.tensor([[9.0, 8, 0, 0, 9, 8, 0, 0]])
    assert best_order(scores, 4, 2).tolist() == list(range(8))


@pytest.mark.parametrize(
    ("name", "readers"), [("llama", ["o_proj", "down_proj"]), ("gpt2", ["c_proj"]), ("gemma", ["down_proj"])]
)
def test_a_network_in_another_order_computes_the_same(name: str, readers: list[str]) -> None:
    make, inputs, _ = CASES[name]
    network = make(num_key_value_heads=2, hidden_size=32) if name == "llama" else make()
    network = copy.deepcopy(network)
    traced = trace(network, inputs())
    found = orders(traced, single_weights(NM(n=1, m=2)(traced)))
    assert {it.split(".")[-2] for it in found} >= set(readers)
    with torch.no_grad():
        before = network(**inputs())[0]
        for reader, order in found.items():
            outer, size, _ = order.places.shape
            shuffled = torch.stack([torch.randperm(size) for _ in range(outer)])
            shapes = {it.tensor: tuple(network.get_parameter(it.tensor).shape) for it in order.members}
            weight = network.get_parameter(reader).clone()
            for tensor, axis, positions in order.moves(shuffled, shapes):
                values = network.get_parameter(tensor)
                values.copy_(values.index_select(axis, positions))
            assert not torch.equal(weight, network.get_parameter(reader))
        torch.testing.assert_close(network(**inputs())[0], before)


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return model(**batch)[0].float().square().mean()


@pytest.mark.parametrize("solver", [None, Sparsegpt()])
@pytest.mark.parametrize("criterion", [Ria(), Magnitude()])
def test_more_is_kept_and_the_plan_is_of_the_new_order(criterion: Ria | Magnitude, solver: Sparsegpt | None) -> None:
    make, inputs, _ = CASES["llama"]
    dense = make(num_hidden_layers=2)
    batches = [inputs(), inputs()]
    task = Task("any", batches[0], {"train": batches}, loss, None, None)  # type: ignore[arg-type]
    kept = {}
    for permute in (False, True):
        recipe = Recipe((NM(),), criterion, Uniform(), sequential=True, solver=solver, permute=permute)
        pruned = prune(dense, task, recipe, 0.5)
        weight = pruned.model.get_parameter("model.layers.0.mlp.down_proj.weight")
        assert ((weight.view(16, -1, 4) != 0).sum(2) <= 2).all()
        kept[permute] = float(weight.detach().abs().sum())
        for name, keep in pruned.plan.keep.items():
            assert not pruned.model.get_parameter(name).flatten()[~keep].any(), name
            assert pruned.masked.get_parameter(name).flatten()[keep].any(), name
    assert kept[True] != kept[False]
    if criterion == Magnitude() and solver is None:
        assert kept[True] > kept[False]


def test_only_few_neighbours_and_only_in_sequence() -> None:
    make, inputs, _ = CASES["llama"]
    traced = trace(make(), inputs())
    assert not orders(traced, single_weights(Weight(per="row")(traced)))
    with pytest.raises(SecateursError, match="add sequential: true"):
        Recipe((NM(),), Ria(), permute=True)
    with pytest.raises(SecateursError, match="helps n_m alone, and not weight; drop permute"):
        Recipe((Weight(),), Ria(), sequential=True, permute=True)
