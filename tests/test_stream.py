import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from chained import CASES
from secateurs.allocations.uniform import Uniform
from secateurs.blocks import chains
from secateurs.criteria.wanda import Wanda
from secateurs.graph import trace
from secateurs.recipe import Recipe
from secateurs.settling import Settling, settle_network_, single_weights
from secateurs.shelf import Shelf
from secateurs.solvers.sparsegpt import Sparsegpt
from secateurs.stream import Stream
from secateurs.structures.weight import Weight
from secateurs.types import Inputs, Plan, Price, Task

ONE_BY_ONE = ("llama", "gpt2", "gemma", "t5", "bart", "mixtral")


def settled(name: str, recipe: Recipe) -> tuple[nn.Module, list[Inputs], Settling]:
    make, inputs, chained = CASES[name]
    network = make().eval()
    traced = trace(network, inputs())
    groups = [g for g in recipe.structure[0](traced) if g.name.startswith(chained)]
    counts = recipe.allocation(groups, {}, 0.5, Price.linear(groups, {g.name: 1.0 for g in groups}))
    weights = {weight.name: weight for weight in traced.weights}
    batches = [{key: torch.roll(value, shift, 0) for key, value in inputs().items()} for shift in (0, 1)]
    batches[1] = {key: value[:1] for key, value in batches[1].items()}
    return network, batches, Settling(network, weights, single_weights(groups), counts, recipe)


def recipe(solver: Sparsegpt | None = None, compensate: bool = False) -> Recipe:
    rows = Recipe((Weight(per="row"),), Wanda(), Uniform(), sequential=True, calibration_batches=2)
    return replace(rows, solver=solver, compensate=compensate)


@contextmanager
def in_place(name: str) -> Iterator[bool]:
    yield True


@pytest.mark.parametrize("how", [recipe(), recipe(Sparsegpt()), recipe(Sparsegpt(), compensate=True)])
@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_block_by_block_is_the_whole_network_bit_for_bit(name: str, how: Recipe, tmp_path: Path) -> None:
    whole, batches, settling = settled(name, how)
    parts = [copy.deepcopy(whole) for _ in range(2)]

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return model(**batch)[0].float().mean()

    task = Task("any", batches[0], {"train": batches}, loss, None, None)  # type: ignore[arg-type]
    plan: Plan = settle_network_(settling, task)
    assert 0.45 < plan.sparsity < 0.55
    for network, shelf in zip(parts, (None, Shelf(tmp_path)), strict=True):
        again = Settling(network, settling.weights, settling.groups, settling.counts, settling.recipe)
        stream = Stream(network, chains(network), nullcontext, in_place, shelf, in_place if how.compensate else None)
        stream.settle_(batches, again.groups, again, gram=how.solver is not None)
        for (tensor, mine), wanted in zip(network.named_parameters(), whole.parameters(), strict=True):
            assert torch.equal(mine, wanted), tensor


def test_a_block_that_is_settled_already_is_only_run() -> None:
    whole, batches, settling = settled("llama", recipe())
    network = copy.deepcopy(whole)
    settling.network = network
    Stream(network, chains(network), nullcontext, in_place).settle_(batches, settling.groups, settling, gram=False)
    finished = copy.deepcopy(network)
    first, *_ = chains(whole)[0].blocks

    @contextmanager
    def resumed(name: str) -> Iterator[bool]:
        if name == first:
            whole.get_submodule(name).load_state_dict(finished.get_submodule(name).state_dict())
        yield name != first

    settling.network = whole
    Stream(whole, chains(whole), nullcontext, resumed).settle_(batches, settling.groups, settling, gram=False)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), finished.parameters(), strict=True))
