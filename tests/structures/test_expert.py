"""Whole experts go, the rows of their router with them: what belongs to one; every way to run them is proven."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks import VOCABULARY, trained_, transformer
from secateurs import surgery, trials
from secateurs.allocations.global_rank import GlobalRank
from secateurs.allocations.uniform import Uniform
from secateurs.criteria.magnitude import Magnitude
from secateurs.criteria.taylor import Taylor
from secateurs.deploy import Transformers, load, save
from secateurs.graph import trace
from secateurs.graph.statistics import reference
from secateurs.graph.trace import forward
from secateurs.measures.loss import Loss
from secateurs.prune import prune
from secateurs.recipe import Recipe
from secateurs.structures.expert import Expert
from secateurs.types import Plan, SecateursError, Task


class Mixture(nn.Module):
    """A router weighs experts that lie in two tensors; ``run`` lets the best of them work."""

    def __init__(self, run: Callable[..., Tensor], experts: int = 6, picked: int = 2) -> None:
        super().__init__()
        self.router = nn.Linear(4, experts)
        self.up, self.down = nn.Parameter(torch.randn(experts, 5, 4)), nn.Parameter(torch.randn(experts, 4, 5))
        self.experts, self.picked, self.run = experts, picked, run

    def expert(self, x: Tensor, i: Any) -> Tensor:
        return F.linear(F.linear(x, self.up[i]).relu(), self.down[i])

    def forward(self, x: Tensor) -> Tensor:
        weights, picks = self.router(x).softmax(-1).topk(self.picked)
        return x + self.run(self, x, weights, picks)


def hit(self: Mixture, x: Tensor, weights: Tensor, picks: Tensor) -> Tensor:
    """The experts that were picked for anything, one after the other."""
    out = torch.zeros_like(x)
    chosen = F.one_hot(picks, num_classes=self.experts).permute(2, 1, 0)
    for (i,) in (chosen.sum((-1, -2)) > 0).nonzero():
        rank, place = torch.where(chosen[i])
        out.index_add_(0, place, self.expert(x[place], i) * weights[place, rank, None])
    return out


def gathered(self: Mixture, x: Tensor, weights: Tensor, picks: Tensor) -> Tensor:
    """The matrices of the picked experts, one for each position."""
    inner = (self.up[picks] @ x[:, None, :, None]).relu()
    return ((self.down[picks] @ inner)[..., 0] * weights[..., None]).sum(1)


def weighted(self: Mixture, x: Tensor, weights: Tensor, picks: Tensor) -> Tensor:
    """All experts, those that were not picked by a weight of zero."""
    spread = torch.zeros(len(x), self.experts).scatter(1, picks, weights)
    every = (x.expand(self.experts, *x.shape) @ self.up.mT).relu() @ self.down.mT
    return (every * spread.t()[..., None]).sum(0)


def single(self: Mixture, x: Tensor, weights: Tensor, picks: Tensor) -> Tensor:
    """The best expert alone."""
    best = self.router(x).argmax(-1)
    return (self.down[best] @ (self.up[best] @ x[..., None]).relu())[..., 0]


def counted(self: Mixture, x: Tensor, weights: Tensor, picks: Tensor) -> Tensor:
    """Every expert in turn, by its number."""
    out = torch.zeros_like(x)
    for i in range(self.experts):
        out = out + self.expert(x, i) * ((picks == i) * weights).sum(1, keepdim=True)
    return out


def shifted(self: Mixture, x: Tensor, weights: Tensor, picks: Tensor) -> Tensor:
    """The experts after those that were picked."""
    return gathered(self, x, weights, (picks + 1) % self.experts)


def check(model: nn.Module, inputs: Any, fresh: Any, *, zeros_differ: bool = True) -> None:
    graph = trace(model, inputs)
    groups = Expert()(graph)
    passed, reasons = trials.provable(model, groups, graph, inputs)
    assert (passed, reasons) == (groups, {}) and groups
    plan = Plan({group.name: torch.arange(group.n_units) % 3 != 1 for group in groups})
    small = surgery.shrink(model, groups, plan, graph, inputs).model
    masked = copy.deepcopy(model)
    surgery.mask_(masked, groups, plan)
    wanted, got = reference(masked, fresh, graph, groups, plan)[0], forward(small, fresh)[0]
    assert float((got - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    seen = float((got - forward(masked, fresh)[0]).abs().max()) > 1e-3 * float(wanted.abs().max())
    assert seen or not zeros_differ


@pytest.mark.parametrize("run", [hit, gathered, weighted, single], ids=lambda run: run.__name__)
def test_an_expert_is_its_matrices_and_its_row_of_the_router(run: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    model = trained_(Mixture(run))
    [group] = Expert()(trace(model, (torch.randn(9, 4),)))
    assert (group.n_units, group.block, group.least) == (6, 6, 2)
    places = {"router.weight", "router.bias", "up", "down"}
    assert {(member.tensor, member.dims) for member in group.members} == {(name, (0,)) for name in places}
    # a zero is hardly ever the best of numbers of both signs
    check(model, (torch.randn(9, 4),), (torch.randn(13, 4),), zeros_differ=run is not single)


@pytest.mark.parametrize("run", [counted, shifted], ids=lambda run: run.__name__)
def test_experts_told_apart_by_their_numbers_stay(run: Callable[..., Tensor]) -> None:
    graph = trace(trained_(Mixture(run)), (torch.randn(9, 4),))
    assert Expert()(graph) == ()
    [dim] = [dim for dim in graph.dims.values() if "router.weight[0]" in dim.carriers]
    assert dim.frozen == "its positions are told apart by their numbers"


def test_experts_that_are_modules_stay() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router, self.experts = nn.Linear(4, 5), nn.ModuleList(nn.Linear(4, 4) for _ in range(5))

        def forward(self, x: Tensor) -> Tensor:
            out, best = torch.zeros_like(x), self.router(x).argmax(-1)
            for i in F.one_hot(best, 5).sum(0).nonzero()[:, 0]:
                out[best == i] += self.experts[i](x[best == i])
            return out

    graph = trace(trained_(Listed()), (torch.randn(9, 4),))
    assert Expert()(graph) == ()
    [dim] = [dim for dim in graph.dims.values() if "router.weight[0]" in dim.carriers]
    assert dim.frozen == "its positions are told apart by their numbers"


def test_no_fewer_stay_than_are_picked() -> None:
    model, inputs = trained_(Mixture(gathered)), (torch.randn(9, 4),)
    graph = trace(model, inputs)
    groups = Expert()(graph)
    plan = Plan({groups[0].name: torch.arange(6) == 3})
    with pytest.raises(SecateursError, match="1 of 6 stay, but 2 are picked at a time; keep 2 at least"):
        surgery.shrink(model, groups, plan, graph, inputs)
    price, scores = graph.price(groups, "macs"), {groups[0].name: torch.arange(6.0)}
    assert GlobalRank("units", floor=0)(groups, scores, 0.6, graph.price(groups, "units")) == {groups[0].name: 2}
    with pytest.raises(SecateursError, match=r"at most 0\.6667"):
        GlobalRank("units", floor=0)(groups, scores, 0.8, graph.price(groups, "units"))
    with pytest.raises(SecateursError, match="leaves 1, and 2 are needed, of the 6 units"):
        Uniform()(groups, scores, 0.8, price)
    assert Expert()(trace(trained_(Mixture(gathered, picked=6)), inputs)) == (), "all are picked"


SETTINGS = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": VOCABULARY,
    "num_experts_per_tok": 2,
}
MIXTURES = {
    "Mixtral": partial(transformer, "Mixtral", "ForCausalLM", num_local_experts=5, **SETTINGS),
    "Qwen3Moe": partial(
        transformer, "Qwen3Moe", "ForCausalLM", num_experts=6, moe_intermediate_size=24, head_dim=8, **SETTINGS
    ),
}


def tokens(*shape: int) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(VOCABULARY, shape)}


@pytest.mark.parametrize("experts", ["eager", "grouped_mm", "batched_mm"])
@pytest.mark.parametrize("name", MIXTURES)
def test_every_way_to_run_the_experts_of_a_transformer(name: str, experts: str) -> None:
    torch.manual_seed(0)
    model = MIXTURES[name]()
    model.set_experts_implementation(experts)  # type: ignore[operator]
    for parameter in model.parameters():  # as made, the experts add next to nothing
        nn.init.normal_(parameter, std=0.3)
    check(model, tokens(2, 7), tokens(3, 9))


def task(model: nn.Module) -> Task:
    def predict(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        inputs, targets = batch
        return model(**inputs).logits.flatten(0, -2), targets.flatten()

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(*predict(model, batch))

    batches = [(tokens(2, 6), torch.randint(VOCABULARY, (2, 6))) for _ in range(2)]
    return Task("text", tokens(2, 6), dict.fromkeys(("train", "select", "final"), batches), loss, predict, Loss())


@pytest.mark.parametrize("criterion", [Magnitude(), Taylor()], ids=str)
def test_pruned_experts_come_back_from_disk(criterion: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MIXTURES["Mixtral"]()
    recipe = Recipe((Expert(),), criterion, Uniform())
    pruned = prune(model, task(model), recipe, 0.4)
    experts = [int(pruned.plan.keep[group.name].sum()) for group in pruned.groups if group.name.endswith("experts")]
    assert experts == [3]
    save(tmp_path / "a", pruned, recipe=recipe, manifest={}, build=Transformers.of(model))
    inputs = tokens(3, 8)
    assert torch.equal(forward(load(tmp_path / "a"), inputs)[0], forward(pruned.model, inputs)[0])
