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
from secateurs.criteria.loss_increase import LossIncrease
from secateurs.criteria.magnitude import Magnitude
from secateurs.criteria.taylor import Taylor
from secateurs.criteria.wanda import Wanda
from secateurs.deploy import Transformers, load, save
from secateurs.deploy.pretrained import save_pretrained
from secateurs.evidence import scores
from secateurs.graph import trace
from secateurs.graph.statistics import reference
from secateurs.graph.trace import forward
from secateurs.measures.loss import Loss
from secateurs.prune import Pruned, prune
from secateurs.recipe import Recipe
from secateurs.recoveries.bias import Bias
from secateurs.recoveries.distill import Distill
from secateurs.recoveries.fine_tune import FineTune
from secateurs.recoveries.nothing import Nothing
from secateurs.recoveries.reconstruct import Reconstruct
from secateurs.schedules.iterative import Iterative
from secateurs.search import states
from secateurs.structures.expert import Expert
from secateurs.structures.neuron import Neuron
from secateurs.structures.weight import Weight
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


class Listed(nn.Module):
    """A router weighs experts that are modules in a list; ``run`` lets them work."""

    def __init__(self, run: Callable[..., Tensor], experts: int = 6, picked: int = 2) -> None:
        super().__init__()
        self.router = nn.Linear(4, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 5, bias=False), nn.SiLU(), nn.Linear(5, 4, bias=False)) for _ in range(experts)
        )
        self.num_experts, self.picked, self.run = experts, picked, run

    def forward(self, x: Tensor) -> Tensor:
        return x + self.run(self, x, self.router(x).softmax(-1))


def enumerated(self: Listed, x: Tensor, weights: Tensor) -> Tensor:
    """Each module in turn, on the positions that picked its number."""
    out, (best, picks) = torch.zeros_like(x), weights.topk(self.picked)
    for i, expert in enumerate(self.experts):
        place, rank = torch.where(picks == i)
        out[place] += expert(x[place]) * best[place, rank, None]
    return out


def ranged(self: Listed, x: Tensor, weights: Tensor) -> Tensor:
    """Each number in turn, where any position picked it; the weights of those picked are one in sum."""
    out, (best, picks) = torch.zeros_like(x), weights.topk(self.picked)
    best = best / best.sum(-1, keepdim=True)
    for i in range(self.num_experts):
        chosen = picks == i
        if chosen.any():
            place = chosen.any(-1)
            out[place] += self.experts[i](x[place]) * (best * chosen).sum(-1)[place, None]
    return out


def one_hot(self: Listed, x: Tensor, weights: Tensor) -> Tensor:
    """Each number in turn, by its row of a mask."""
    out, (best, picks) = torch.zeros_like(x), weights.topk(self.picked)
    chosen = F.one_hot(picks, num_classes=self.num_experts).permute(2, 1, 0)
    for i in range(self.num_experts):
        rank, place = torch.where(chosen[i])
        out.index_add_(0, place, self.experts[i](x[None, place].reshape(-1, 4)) * best[place, rank, None])
    return out


def met(self: Listed, x: Tensor, weights: Tensor) -> Tensor:
    """The modules that were picked for anything."""
    out, (best, picks) = torch.zeros_like(x), weights.topk(self.picked)
    chosen = F.one_hot(picks, num_classes=self.num_experts).permute(2, 1, 0)
    for i in (chosen.sum((-1, -2)) > 0).nonzero():
        expert = self.experts[i]
        rank, place = torch.where(chosen[i].squeeze(0))
        out.index_add_(0, place, expert(x[place]) * best[place, rank, None])
    return out


def compared(self: Listed, x: Tensor, weights: Tensor) -> Tensor:
    """The best module alone, by numbers that are compared with each other."""
    out, best = torch.zeros_like(x), weights.argmax(-1)
    for i in F.one_hot(best, self.num_experts).sum(0).nonzero()[:, 0]:
        out[best == i] += self.experts[i](x[best == i])
    return out


def ordered(self: Listed, x: Tensor, weights: Tensor) -> Tensor:
    """Positions in the order of the modules that they picked, and how many picked each."""
    best, picks = weights.topk(self.picked)
    counts = picks.new_zeros(len(picks), len(self.experts)).scatter_(1, picks, 1).sum(0).numpy()
    order = picks.view(-1).argsort()
    stretches = x[order // self.picked].split(counts.tolist())
    given = torch.cat([self.experts[i](some) for i, some in enumerate(stretches) if len(some)])
    out = torch.empty_like(given)
    out[order] = given
    return (out.view(len(x), self.picked, -1) * best[..., None]).sum(1)


def stacked(self: Listed, x: Tensor, weights: Tensor) -> Tensor:
    """All modules, side by side."""
    return (torch.stack([expert(x) for expert in self.experts], 1) * weights[..., None]).sum(1)


def multiplied(self: Listed, x: Tensor, weights: Tensor) -> Tensor:
    """All modules, side by side, in one product."""
    return torch.einsum("te,ted->td", weights, torch.cat([expert(x)[:, None] for expert in self.experts], 1))


def summed(self: Listed, x: Tensor, weights: Tensor) -> Tensor:
    """All modules, one after the other."""
    out = torch.zeros_like(x)
    for i, expert in enumerate(self.experts):
        out = out + weights[:, i, None] * expert(x)
    return out


SPARSE = (enumerated, ranged, one_hot, met, compared, ordered)
LISTED = (*SPARSE, stacked, multiplied, summed)


@pytest.mark.parametrize("run", LISTED, ids=lambda run: run.__name__)
def test_an_expert_in_a_list_is_its_module_and_its_row_of_the_router(run: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    model, inputs = trained_(Listed(run)), (torch.randn(12, 4),)
    graph = trace(model, inputs)
    [group] = Expert()(graph)
    picked = run in SPARSE and run is not compared
    assert (group.n_units, group.block, group.least) == (6, 6, 2 if picked else 1)
    rows = {(member.tensor, member.dims) for member in group.members if member.unit is None}
    assert rows == {("router.weight", (0,)), ("router.bias", (0,))}
    modules = {(member.tensor, member.unit) for member in group.members if member.unit is not None}
    assert modules == {(f"experts.{i}.{layer}.weight", i) for i in range(6) for layer in (0, 2)}
    check(model, inputs, (torch.randn(13, 4),), zeros_differ=run is not compared)
    plan = Plan({group.name: torch.tensor([0, 1, 1, 0, 0, 1]).bool()})
    small = surgery.shrink(model, [group], plan, graph, inputs).model
    left = {f"experts.{i}.{layer}.weight" for i in range(3) for layer in (0, 2)}
    assert {name for name in small.state_dict() if "experts" in name} == left
    assert small.num_experts == 3 and len(small.experts) == 3  # type: ignore[arg-type]
    assert sum(p.numel() for p in small.parameters()) == graph.parameters(surgery.sizes_after([group], plan, graph))
    small(torch.randn(40, 4)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in small.experts.parameters())  # type: ignore


def told_apart(self: Listed, x: Tensor, weights: Tensor) -> Tensor:
    """The best module alone; the first of them weighs twice as much."""
    best = weights.argmax(-1)
    return compared(self, x, weights) * (1 + (best < 1)[:, None])


def written_out(self: Listed, x: Tensor, weights: Tensor) -> Tensor:
    """All modules, by numbers that the code says."""
    return sum((weights[:, i, None] * self.experts[i](x) for i in range(6)), torch.zeros_like(x))


def turned_round(self: Listed, x: Tensor, weights: Tensor) -> Tensor:
    """All modules, the last in the first place."""
    return sum((weights[:, -1 - i, None] * it(x) for i, it in enumerate(self.experts)), torch.zeros_like(x))


@pytest.mark.parametrize("run", [told_apart, written_out, turned_round], ids=lambda run: run.__name__)
def test_experts_in_a_list_that_cannot_close_up_stay(run: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    model, inputs = trained_(Listed(run)), (torch.randn(12, 4),)
    graph = trace(model, inputs)
    groups = Expert()(graph)
    passed, reasons = trials.provable(model, groups, graph, inputs)
    assert passed == () and len(reasons) == len(groups) == (0 if run is told_apart else 1)


def test_no_fewer_stay_than_are_picked() -> None:
    model, inputs = trained_(Mixture(gathered)), (torch.randn(9, 4),)
    graph = trace(model, inputs)
    groups = Expert()(graph)
    plan = Plan({groups[0].name: torch.arange(6) == 3})
    with pytest.raises(SecateursError, match="1 of 6 stay, but 2 are picked at a time; keep 2 at least"):
        surgery.shrink(model, groups, plan, graph, inputs)
    price, scores = graph.price(groups, "macs"), {groups[0].name: torch.arange(6.0)}
    assert GlobalRank("units", floor=0)(groups, scores, 0.6, graph.price(groups, "units")) == {groups[0].name: 2}
    with pytest.raises(SecateursError, match=r"at most 0\.6666; .* keeps 2 of 6, as so many are picked at a time"):
        GlobalRank("units", floor=0)(groups, scores, 0.8, graph.price(groups, "units"))
    with pytest.raises(SecateursError, match="leaves 1, and 2 are picked at a time, of the 6 units"):
        Uniform()(groups, scores, 0.8, price)
    whole = trace(trained_(Mixture(gathered, picked=6)), inputs)
    assert Expert()(whole) == (), "all are picked"
    assert "router (top_k 6 of 6 experts): all are picked every time" in Expert().why_none(whole)
    assert Expert().why_none(graph) == ""


SETTINGS = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": VOCABULARY,
    "num_experts_per_tok": 2,
}
SWITCH = partial(
    transformer,
    "SwitchTransformers",
    "ForConditionalGeneration",
    d_model=16,
    d_ff=24,
    d_kv=8,
    num_heads=2,
    num_layers=2,
    num_decoder_layers=2,
    num_sparse_encoder_layers=1,
    num_sparse_decoder_layers=1,
    num_experts=5,
    expert_capacity=64,
    vocab_size=VOCABULARY,
    decoder_start_token_id=0,
)
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


def both(*shape: int) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(1, VOCABULARY, shape), "decoder_input_ids": torch.randint(1, VOCABULARY, shape)}


def test_experts_of_a_transformer_that_are_modules_by_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SWITCH()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    check(model, both(2, 12), both(3, 9))
    graph = trace(model, both(2, 12))
    groups = Expert(same=True)(graph)
    plan = Plan({group.name: torch.tensor([0, 1, 1, 0, 1]).bool() for group in groups})
    shrunk = surgery.shrink(model, groups, plan, graph, both(2, 12))
    pruned = Pruned(shrunk.model, plan, shrunk.repairs, model, groups, 0.4)
    save(
        tmp_path / "a",
        pruned,
        recipe=Recipe((Expert(),), Magnitude(), Uniform()),
        manifest={},
        build=Transformers.of(model),
    )
    loaded, inputs = load(tmp_path / "a"), both(3, 8)["input_ids"]
    written = [it.generate(inputs, max_new_tokens=6, do_sample=False) for it in (loaded, copy.deepcopy(shrunk.model))]
    assert torch.equal(*written)
    save_pretrained(tmp_path / "plain", shrunk.model, Transformers.of(model), both(2, 6))
    plain = type(model).from_pretrained(tmp_path / "plain")  # type: ignore[attr-defined]
    assert plain.config.num_experts == 3
    assert torch.equal(plain.generate(inputs, max_new_tokens=6, do_sample=False), written[0])


# -------------------------------------------------------------------------------- modules in a list, pruned in rounds


def of_numbers(model: nn.Module) -> Task:
    def predict(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        return model(batch[0]), batch[1]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        got, wanted = predict(model, batch)
        return (got - wanted).square().mean()

    batches = [(torch.randn(16, 4), torch.randn(16, 4)) for _ in range(3)]
    return Task("numbers", batches[0][:1], dict.fromkeys(("train", "select", "final"), batches), loss, predict, Loss())


@pytest.mark.parametrize("criterion", [Magnitude(), Taylor(), Wanda(), LossIncrease()], ids=str)
def test_every_criterion_ranks_modules_as_it_does_stacked_experts(criterion: Any) -> None:
    torch.manual_seed(0)
    listed = trained_(Listed(enumerated))
    stacked = Mixture(hit)
    stacked.router.load_state_dict(listed.router.state_dict())  # type: ignore[union-attr, arg-type]
    for i, expert in enumerate(listed.experts):  # type: ignore[arg-type, var-annotated]
        stacked.up.data[i], stacked.down.data[i] = expert[0].weight, expert[2].weight
        expert[1] = nn.ReLU()
    task = of_numbers(listed)
    found = []
    for model in (listed, stacked):
        groups = Expert()(trace(model, task.example_inputs))
        found += scores(model, groups, criterion, task, 2).values()
    assert torch.allclose(*found, rtol=1e-4) and len(found[0]) == 6


def test_an_expert_that_no_token_reached_is_worth_nothing_to_who_weighs_by_activations() -> None:
    torch.manual_seed(0)
    model = trained_(Listed(ranged))
    model.router.bias.data[3] = -99.0  # type: ignore[union-attr, operator, index]
    task = of_numbers(model)
    [group] = Expert()(trace(model, task.example_inputs))
    [ranked] = scores(model, [group], Wanda(), task, 2).values()
    assert int(ranked.argmin()) == 3


@pytest.mark.parametrize(
    ("run", "recovery"),
    [
        (enumerated, Nothing()),
        (enumerated, Bias()),
        (summed, FineTune(epochs=1)),
        (summed, Reconstruct()),
        (summed, Distill(hints=0.5, epochs=1)),
    ],
    ids=lambda it: getattr(it, "__name__", type(it).__name__),
)
def test_modules_go_in_rounds_and_are_healed(run: Callable[..., Tensor], recovery: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = trained_(Listed(run))
    task = of_numbers(model)
    structure = (Expert(), Neuron(), Weight())
    recipe = Recipe(structure, Taylor(), Uniform(), Iterative(rounds=2), recovery)
    pruned = prune(model, task, recipe, 0.4)
    small, [name] = pruned.model, [group.name for group in pruned.groups if group.name.endswith("experts")]
    assert len(small.experts) == int(pruned.plan.keep[name].sum()) == 3  # type: ignore[arg-type]
    x = (torch.randn(13, 4),)
    network = trace(model, task.example_inputs)
    if not isinstance(recovery, Bias):  # else the masked network has tensors that this trace does not know
        wanted = reference(pruned.masked, x, network, pruned.groups, pruned.plan)[0]
        assert torch.allclose(forward(small, x)[0], wanted, atol=1e-5 * float(wanted.abs().max()))
    save(tmp_path / "a", pruned, recipe=recipe, manifest={}, build=None)
    loaded = load(tmp_path / "a", lambda: Listed(run))
    assert torch.equal(forward(loaded, x)[0], forward(small, x)[0])
    restored = restore_from(tmp_path / "state", model, pruned)
    assert torch.equal(forward(restored.model, x)[0], forward(small, x)[0])
    assert all(torch.equal(a, b) for a, b in zip(restored.masked.parameters(), pruned.masked.parameters(), strict=True))


def restore_from(path: Path, model: nn.Module, pruned: Pruned) -> Pruned:
    states.keep(path, pruned)
    return states.restore(path, model, pruned.groups)


def test_healing_follows_the_same_module_of_the_dense_network() -> None:
    torch.manual_seed(0)
    model = trained_(Listed(summed))
    for expert in model.experts:  # type: ignore[union-attr]
        expert[2].weight.data[:, 1] = 0.0  # type: ignore[index, union-attr, operator]
    task = of_numbers(model)
    graph = trace(model, task.example_inputs)
    groups = (*Expert()(graph), *Neuron()(graph))
    keep = {it.name: torch.tensor([1, 0, 1, 1, 1] if it.n_units == 5 else [0, 1, 0, 1, 1, 1]).bool() for it in groups}
    small = surgery.shrink(model, groups, Plan(keep), graph, task.example_inputs).model
    before = copy.deepcopy(small)
    Reconstruct(follow="output")(small, {}, task, model)
    for mine, theirs in zip(small.parameters(), before.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-3), "what went was zero, so there is nothing to mend"
