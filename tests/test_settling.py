import copy
import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from secateurs.allocations.uniform import Uniform
from secateurs.criteria.magnitude import Magnitude
from secateurs.criteria.ria import Ria
from secateurs.criteria.wanda import Wanda
from secateurs.graph import trace
from secateurs.multiplied import Multiplied
from secateurs.recipe import Recipe
from secateurs.settling import Later, Settling, settle_network_, single_weights
from secateurs.solvers.sparsegpt import Sparsegpt
from secateurs.structures.block import Block
from secateurs.structures.channel import Channel
from secateurs.structures.n_m import NM
from secateurs.structures.weight import Weight
from secateurs.testing import example_model, example_task
from secateurs.types import Plan, Price, SecateursError, Task


def settling(network: nn.Module, inputs: tuple[Any, ...], recipe: Recipe, plan: Plan | None = None) -> Settling:
    traced = trace(network, inputs)
    groups = [group for structure in recipe.structure for group in structure(traced)]
    counts = recipe.allocation(groups, {}, 0.5, Price.linear(groups, {group.name: 1.0 for group in groups}))
    weights = {weight.name: weight for weight in traced.weights}
    return Settling(network, weights, single_weights(groups), counts, recipe, plan or Plan({}))


def multiplied(x: torch.Tensor, gram: bool = False) -> Multiplied:
    seen = Multiplied(gram)
    seen.add(x)
    return seen


def one_layer() -> tuple[nn.Module, tuple[Any, ...]]:
    network = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Tanh(), nn.Linear(2, 2))
    with torch.no_grad():
        network.get_parameter("0.weight").copy_(torch.tensor([[1.0, -2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]]))
    return network, (torch.randn(3, 4),)


def test_wanda_by_hand() -> None:
    network, inputs = one_layer()
    settle = settling(network, inputs, Recipe((Weight(per="row"),), Wanda(), Uniform(), sequential=True))
    kept = settle("0.weight", multiplied(torch.tensor([[10.0, 1.0, 1.0, 1.0]])))
    assert kept.tolist() == [True, False, False, True, True, True, False, False]
    assert network.get_parameter("0.weight").tolist() == [[1, 0, 0, 4], [4, 3, 0, 0]]


def test_what_was_dropped_does_not_come_back() -> None:
    network, inputs = one_layer()
    gone = torch.tensor([True] * 3 + [False] + [True] * 4)
    recipe = Recipe((NM(),), Wanda(), Uniform(), sequential=True)
    kept = settling(network, inputs, recipe, Plan({"0.weight": gone}))("0.weight", multiplied(torch.ones(1, 4)))
    assert kept.tolist() == [False, True, True, False, True, True, False, False]


@pytest.mark.parametrize("solver", [None, Sparsegpt()])
def test_activations_that_are_not_finite_are_told_with_the_weights_name(solver: Sparsegpt | None) -> None:
    network, inputs = one_layer()
    settle = settling(network, inputs, Recipe((NM(),), Wanda(), Uniform(), sequential=True, solver=solver))
    with pytest.raises(SecateursError, match=r"0\.weight meets NaN or infinite activations"):
        settle("0.weight", multiplied(torch.tensor([[1.0, float("nan"), 1.0, 1.0]]), gram=solver is not None))


def test_too_few_tokens_for_a_gram_matrix_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    network, inputs = one_layer()
    settle = settling(network, inputs, Recipe((NM(),), Wanda(), Uniform(), sequential=True, solver=Sparsegpt()))
    settle("0.weight", multiplied(torch.randn(3, 4), gram=True))
    with caplog.at_level(logging.WARNING):
        settle.warn()
    assert "fewer tokens than they have input features (0.weight" in caplog.text


def test_a_transposed_weight_is_solved_in_its_own_layout() -> None:
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    torch.manual_seed(0)
    linear, x = nn.Linear(8, 4, bias=False), torch.randn(40, 8)
    turned = conv1d(4, 8)
    turned.weight.data = linear.weight.data.T.contiguous()
    solved = []
    for layer in (linear, turned):
        network = nn.Sequential(layer, nn.Tanh(), nn.Linear(4, 2))
        recipe = Recipe((NM(keep=("2.*",)),), Wanda(), Uniform(), sequential=True, solver=Sparsegpt())
        settling(network, (x,), recipe)("0.weight", multiplied(x, gram=True))
        solved.append(layer.weight.detach())
    torch.testing.assert_close(solved[0], solved[1].T)
    assert (solved[0] == 0).sum() == 16


def test_a_network_in_memory() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 4))
    recipe = Recipe((Weight(per="row"),), Wanda(), Uniform(), sequential=True, calibration_batches=2)
    plan = settle_network_(settling(network, example_task().example_inputs, recipe), example_task())  # type: ignore[arg-type]
    weight = network.get_parameter("1.weight")
    assert set((weight != 0).sum(dim=1).tolist()) == {32}
    assert torch.equal(weight != 0, plan.keep["1.weight"].view_as(weight))


def test_what_is_mostly_convolutions_is_refused_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    recipe = Recipe((Weight(),), Wanda(), Uniform(), sequential=True)
    with pytest.raises(SecateursError, match=r"^0\.weight does not multiply .* leave out `sequential`"):
        settle_network_(settling(network, example_task().example_inputs, recipe), example_task())  # type: ignore[arg-type]


def test_a_small_convolution_stays_dense_beside_what_can_be_settled() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(128, 24), nn.ReLU(), nn.Linear(24, 4)
    )
    dense = network.get_parameter("0.weight").detach().clone()
    recipe = Recipe((Weight(),), Wanda(), Uniform(), sequential=True, calibration_batches=2)
    plan = settle_network_(settling(network, example_task().example_inputs, recipe), example_task())  # type: ignore[arg-type]
    assert plan.keep["0.weight"].all() and torch.equal(network.get_parameter("0.weight"), dense)
    assert plan.keep["2.weight"].float().mean() == 0.5


def test_weights_alone_need_no_data_and_be_multiplied_in_any_way() -> None:
    network, inputs = example_model(), example_task().example_inputs
    recipe = Recipe((Weight(per="row"),), Magnitude(), Uniform(), sequential=True)
    assert not recipe.calibrated
    before = {name: it.detach().clone() for name, it in network.named_parameters()}

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        raise AssertionError("a forward pass")

    plan = settle_network_(settling(network, inputs, recipe), replace(example_task(), loss=loss))  # type: ignore[arg-type]
    assert any(before[name].dim() == 4 for name in plan.keep)
    for name, kept in plan.keep.items():
        size, rows = before[name].flatten(1).abs(), kept.view(len(before[name]), -1)
        least = size.masked_fill(~rows, torch.inf).amin(1)
        assert (least >= size.masked_fill(rows, 0).amax(1)).all() and len(set(rows.sum(1).tolist())) == 1
        assert torch.equal(network.get_parameter(name), before[name] * kept.view_as(before[name]))


@pytest.mark.parametrize("criterion", [Magnitude(), Wanda()])
def test_weights_that_are_not_finite_are_told_before_a_pass(criterion: Any) -> None:
    network, inputs = one_layer()
    settle = settling(network, inputs, Recipe((Weight(),), criterion, Uniform(), sequential=True))
    network.get_parameter("2.bias").data[1] = torch.nan
    with pytest.raises(SecateursError, match=r"2\.bias holds NaN or infinite weights"):
        settle_network_(settle, example_task())  # type: ignore[arg-type]


def test_units_that_reach_through_several_tensors_are_refused() -> None:
    groups = Channel()(trace(example_model(), example_task().example_inputs))
    with pytest.raises(SecateursError, match="only single weights can be settled"):
        single_weights(groups)


def test_a_solver_is_not_asked_for_tiles() -> None:
    network, inputs = one_layer()
    recipe = Recipe((Block(2, 2, outputs=True),), Wanda(), Uniform(), sequential=True, solver=Sparsegpt())
    with pytest.raises(SecateursError, match=r"^0\.weight: a solver takes single weights, .* leave it out"):
        Settling.of(network, trace(network, inputs), Block(2, 2, outputs=True)(trace(network, inputs)), recipe)


class Picked(nn.Module):
    """Layers in a list: the sign of a batch picks one of the first two, and nothing the third."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers, self.last = nn.ModuleList(nn.Linear(4, 4) for _ in range(3)), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.layers[int(x[0, 0] > 0)](x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("solver", [None, Sparsegpt()])
def test_a_layer_that_the_first_batch_does_not_reach_is_settled_on_the_others(
    solver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    network, x = Picked(), torch.randn(20, 4).abs()
    dense = copy.deepcopy(network)
    recipe = Recipe((NM(),), Wanda(), Uniform(), sequential=True, solver=solver)
    settle_network_(settling(network, (x,), recipe), rows_task([x, -x * torch.tensor([1, 1e3, 1, 1e3])]))
    for layer in network.layers:
        assert int((layer.weight == 0).sum()) == 8
    assert int((network.layers[0].weight[:, [1, 3]] != 0).sum()) >= 7, "what meets large inputs is kept"
    assert "1 weights met no token (layers.2.weight)" in caplog.text
    size = dense.layers[2].weight.detach().abs()
    if solver is None:
        kept = torch.zeros_like(size, dtype=torch.bool).scatter_(1, size.topk(2, dim=1).indices, True)
        assert torch.equal(network.layers[2].weight != 0, kept)


def test_two_groups_of_one_weight_are_refused() -> None:
    network, inputs = one_layer()
    traced = trace(network, inputs)
    with pytest.raises(SecateursError, match=r"two structures claim 0\.weight"):
        single_weights([*Weight()(traced), *NM()(traced)])


def test_later_scores_are_made_once_when_looked_at() -> None:
    made = []
    scores = Later(lambda: made.append(1) or {"a": torch.ones(2)})  # type: ignore[func-returns-value]
    assert not made
    assert list(scores) == ["a"] and len(scores) == 1 and scores["a"].tolist() == [1, 1]
    assert made == [1]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(self.up(self.norm(x)).relu())  # type: ignore[no-any-return]


def test_what_compensates_stays_nearer_to_the_dense_network() -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), *(Residual() for _ in range(4)), nn.Linear(16, 3)).eval()
    task, gaps = example_task(), {}
    images = torch.cat([batch[0] for batch in task.splits["train"]])
    for compensate in (False, True):
        network = copy.deepcopy(dense)
        recipe = Recipe((Weight(),), Wanda(), Uniform(), sequential=True, solver=Sparsegpt(), compensate=compensate)
        plan = settle_network_(settling(network, task.example_inputs, recipe), task)  # type: ignore[arg-type]
        assert plan.sparsity == 0.5
        with torch.no_grad():
            gaps[compensate] = float((network[:-1](images) - dense[:-1](images)).square().mean())  # type: ignore[operator,index]
    assert gaps[True] < 0.8 * gaps[False]


class Experts(nn.Module):
    """Three experts in each of two tensors."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down = nn.Parameter(torch.randn(3, 8, 4)), nn.Parameter(torch.randn(3, 4, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ends = torch.tensor([len(x) // 2, len(x) // 2, len(x)], dtype=torch.int32)
        inner = nn.functional.grouped_mm(x, self.up.mT, offs=ends).relu()
        return nn.functional.grouped_mm(inner, self.down.mT, offs=ends)


class Batched(nn.Module):
    """The same, turned: all tokens are laid before each, zeros where they are not sent to it."""

    def __init__(self) -> None:
        super().__init__()
        experts = Experts()
        self.up, self.down = (nn.Parameter(it.detach().mT.contiguous()) for it in (experts.up, experts.down))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sent = torch.arange(len(x)) < len(x) // 2
        laid = x * torch.stack([sent, torch.zeros_like(sent), ~sent])[..., None]
        return torch.bmm(torch.bmm(laid, self.up).relu(), self.down).sum(dim=0)


class Looped(Experts):
    """The same, one expert after the other."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = zip((0, 2), x.split([len(x) // 2, len(x) - len(x) // 2]), strict=True)
        linear = nn.functional.linear
        return torch.cat([linear(linear(some, self.up[i]).relu(), self.down[i]) for i, some in rows])


class OneByOne(nn.Module):
    """The same, each matrix a layer of its own; the expert that meets nothing is left out."""

    def __init__(self, experts: Experts | Batched) -> None:
        super().__init__()
        turned = isinstance(experts, Batched)
        self.up, self.down = (nn.ModuleList(nn.Linear(*shape, bias=False) for _ in "ab") for shape in ((4, 8), (8, 4)))
        for mine, theirs in ((self.up, experts.up), (self.down, experts.down)):
            for one, matrix in zip(mine, (theirs[0], theirs[2]), strict=True):
                one.weight.data = (matrix.T if turned else matrix).detach().clone()  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.split([len(x) // 2, len(x) - len(x) // 2])
        each = zip(rows, self.up, self.down, strict=True)
        return torch.cat([down(up(some).relu()) for some, up, down in each])


def rows_task(batches: list[torch.Tensor]) -> Any:
    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return model(batch).square().mean()  # type: ignore[no-any-return]

    return Task("rows", (batches[0],), {"train": batches}, loss, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("structure", "solver"),
    [
        (Block(2, 2, keep=("2.*",)), None),
        *((it, s) for it in (NM(), Weight(per="row"), Weight()) for s in (None, Sparsegpt())),
    ],
)
@pytest.mark.parametrize("kind", [Experts, Batched])
def test_experts_in_one_tensor_become_what_they_would_one_by_one(
    kind: Any, structure: Any, solver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stacked = nn.Sequential(nn.Identity(), kind(), nn.Linear(4, 1))
    apart = nn.Sequential(nn.Identity(), OneByOne(stacked[1]), stacked[2])  # type: ignore[arg-type]
    batches = [torch.randn(40, 4), torch.randn(30, 4)]
    recipe = Recipe((structure,), Ria() if solver is None else Wanda(), Uniform(), sequential=True, solver=solver)
    for network in (stacked, apart):
        settle_network_(settling(network, (batches[0],), recipe), rows_task(batches))
    for mine, theirs in (("1.up", "1.up.{}.weight"), ("1.down", "1.down.{}.weight")):
        for at, expert in enumerate((0, 2)):
            wanted = apart.get_parameter(theirs.format(at))
            found = stacked.get_parameter(mine)[expert]
            torch.testing.assert_close(found.T if kind is Batched else found, wanted)
    unseen = stacked.get_parameter("1.up")[1]
    assert int((unseen == 0).sum()) == 16, "what met no token is settled by size"
    assert "2 weights met no token (1.up[1], 1.down[1])" in caplog.text


@pytest.mark.parametrize("solver", [None, Sparsegpt()])
def test_experts_one_after_the_other_are_settled_together(solver: Any, caplog: pytest.LogCaptureFixture) -> None:
    stacked, batches = nn.Sequential(nn.Identity(), Looped(), nn.Linear(4, 1)), [torch.randn(40, 4), torch.randn(30, 4)]
    dense = copy.deepcopy(stacked[1])

    def settle(network: nn.Module, *keep: str) -> None:
        recipe = Recipe((NM(keep=keep),), Wanda(), Uniform(), sequential=True, solver=solver)
        settle_network_(settling(network, (batches[0],), recipe), rows_task(batches))

    settle(stacked)
    for mine, other in (("up", "down"), ("down", "up")):  # each on what the dense one of the other gives
        apart = nn.Sequential(nn.Identity(), OneByOne(dense), nn.Linear(4, 1))  # type: ignore[arg-type]
        settle(apart, f"1.{other}.*")
        for at, expert in enumerate((0, 2)):
            wanted = apart.get_parameter(f"1.{mine}.{at}.weight")
            torch.testing.assert_close(stacked.get_parameter(f"1.{mine}")[expert], wanted)
    assert "2 weights met no token (1.up[1], 1.down[1])" in caplog.text
    assert type(stacked[1].up) is nn.Parameter


@pytest.mark.parametrize("kind", [Experts, Looped])
def test_experts_beside_the_dense_network(kind: Any) -> None:
    torch.manual_seed(0)
    batches, gaps = [torch.randn(60, 4) for _ in range(2)], []
    for compensate in (False, True):
        network = nn.Sequential(nn.Linear(4, 4), kind(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
        dense = copy.deepcopy(network)
        structure = (NM(keep=("4.*",)),)
        recipe = Recipe(structure, Wanda(), Uniform(), sequential=True, solver=Sparsegpt(), compensate=compensate)
        settle_network_(settling(network, (batches[0],), recipe), rows_task(batches))
        assert isinstance(network[1], Experts) and type(network[1].up) is nn.Parameter
        with torch.no_grad():
            gaps.append(float((network[:3](batches[0]) - dense[:3](batches[0])).square().mean()))
    assert gaps[1] < gaps[0]
