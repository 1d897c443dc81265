from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateurs.criteria.magnitude import Magnitude
from secateurs.criteria.obs import Obs
from secateurs.criteria.ria import Ria
from secateurs.criteria.taylor import Taylor
from secateurs.criteria.wanda import Wanda
from secateurs.evidence import facts, scores
from secateurs.graph import trace
from secateurs.structures.weight import Weight
from secateurs.types import Group, Member, Need, Reading, Rows, SecateursError, Task


def no_quality(model: nn.Module, task: Task) -> Reading:
    raise AssertionError("evidence must not measure")


def mean_square(model: nn.Module, batch: Tensor) -> Tensor:
    out: Tensor = model(batch)
    return out.square().mean()


def task_of(batches: Sequence[Tensor], loss: Callable[..., Tensor] = mean_square) -> Task:
    return Task(
        "toy",
        (batches[0] if batches else torch.ones(1),),
        {"train": batches, "final": [torch.full((1,), torch.nan)]},
        loss,
        lambda model, batch: (model(batch), batch),
        no_quality,  # type: ignore[arg-type]
    )


def norms(model: nn.Module, *batches: Tensor) -> dict[str, Tensor]:
    [found] = facts(model, task_of(batches), frozenset({"activation_norm"}), len(batches))
    for name, norm in found.activation_norm.items():
        norm.expand(model.get_parameter(name).shape)  # broadcasts to the weight
    return dict(found.activation_norm)


# ------------------------------------------------------------------------------------------------- input norms


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 5), (2, 1, 3, 5)])
def test_norms_of_a_linear_layer_over_all_batches(bias: bool, shape: tuple[int, ...]) -> None:
    model, x, y = nn.Linear(5, 4, bias=bias), torch.randn(shape), torch.randn(shape)
    found = norms(model, x, y)
    assert list(found) == ["weight"]
    every = torch.cat([x.reshape(-1, 5), y.reshape(-1, 5)])
    assert torch.allclose(found["weight"].expand(4, 5), every.norm(dim=0).expand(4, 5), atol=1e-5)


class Transposed(nn.Module):
    """The weight is (in, out), as in GPT-2."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


def test_norms_of_a_transposed_weight() -> None:
    x = torch.randn(7, 5)
    assert torch.allclose(norms(Transposed(), x)["weight"].expand(5, 4), x.norm(dim=0)[:, None].expand(5, 4))


class Sliced(nn.Module):
    """Two projections in one weight, each with an input of its own, and one weight used from the left."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.left = nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.randn(3, 8))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.both.chunk(2)
        y = F.linear(x, first) + F.linear(x.exp(), second)
        return torch.cat([y.flatten(), (self.left @ x).flatten()])


def test_norms_of_a_sliced_weight_and_of_one_on_the_left() -> None:
    x = torch.randn(8, 5)
    found = norms(Sliced(), x)
    expected = torch.cat([x.norm(dim=0).expand(3, 5), x.exp().norm(dim=0).expand(3, 5)])
    assert torch.allclose(found["both"], expected, atol=1e-5)
    assert torch.allclose(found["left"].expand(3, 8), x.norm(dim=1).expand(3, 8), atol=1e-5)


class Batched(nn.Module):
    """One matrix for each of three experts, and one matrix shared along the batch axis of bmm."""

    def __init__(self) -> None:
        super().__init__()
        self.experts, self.shared = nn.Parameter(torch.randn(3, 5, 4)), nn.Parameter(torch.randn(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(torch.bmm(x, self.experts).relu(), self.shared.expand(3, 4, 2))


def test_norms_of_batched_weights() -> None:
    model, x = Batched(), torch.randn(3, 6, 5)
    found = norms(model, x)
    assert torch.allclose(found["experts"].expand(3, 5, 4), x.norm(dim=1)[:, :, None].expand(3, 5, 4), atol=1e-5)
    hidden = torch.bmm(x, model.experts).relu().flatten(0, 1).detach()
    assert torch.allclose(found["shared"].expand(4, 2), hidden.norm(dim=0)[:, None].expand(4, 2), atol=1e-5)


class Experts(nn.Module):
    """Rows in stretches, each times a matrix of its own; the last row is nobody's."""

    ENDS = torch.tensor([2, 2, 5], dtype=torch.int32)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return F.grouped_mm(x, self.weight.mT, offs=self.ENDS)[:5]


def test_norms_of_experts_are_of_their_own_rows() -> None:
    model, x = Experts(), torch.randn(6, 8)
    expected = torch.stack([x[:2].norm(dim=0), torch.zeros(8), x[2:5].norm(dim=0)])
    assert torch.allclose(norms(model, x)["weight"].expand(3, 4, 8), expected[:, None].expand(3, 4, 8), atol=1e-5)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.a(x).exp())
        return y


def test_norms_of_a_tied_weight_count_every_use_and_carry_every_name() -> None:
    model, x = Tied(), torch.randn(6, 4)
    found = norms(model, x)
    expected = torch.cat([x, model.a(x).exp().detach()]).norm(dim=0)
    assert found.keys() == {"a.weight", "b.weight"}
    for norm in found.values():
        assert torch.allclose(norm.expand(4, 4), expected.expand(4, 4), atol=1e-4)


def by_unfolding(conv: nn.Conv2d, x: Tensor) -> Tensor:
    taps = F.unfold(x, conv.kernel_size, conv.dilation, conv.padding, conv.stride)  # type: ignore[arg-type]
    per_tap = taps.square().sum((0, 2)).sqrt().reshape(conv.groups, 1, -1, *conv.kernel_size)
    return per_tap.expand(-1, conv.out_channels // conv.groups, -1, -1, -1).reshape(conv.weight.shape)


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2}, {"groups": 4, "padding": 1}]
)
def test_norms_of_a_convolution_at_every_tap(options: dict[str, Any]) -> None:
    conv, x = nn.Conv2d(4, 8, 3, **options), torch.randn(3, 4, 9, 8)
    found = norms(conv, x)["weight"]
    assert torch.allclose(found.expand(conv.weight.shape), by_unfolding(conv, x), atol=1e-4)


@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        (nn.Conv1d(4, 6, 3, padding=1, groups=2), (2, 4, 9)),
        (nn.Conv3d(2, 3, 2), (2, 2, 4, 5, 4)),
        (nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1), (2, 4, 9)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 4, 5, 5)),
    ],
    ids=["1d grouped", "3d", "transposed", "transposed grouped"],
)
def test_norms_of_other_convolutions(conv: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    found = norms(conv, x)["weight"]
    squares = copy.deepcopy(conv)
    squares(x.square()).sum().backward()  # the derivative by w is the sum of all that it multiplies
    expected = squares.get_parameter("weight").grad
    assert expected is not None
    assert torch.allclose(found.expand(expected.shape), expected.sqrt(), atol=1e-4)


def test_norms_inside_fused_attention() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True).train()
    x = torch.randn(2, 5, 8)
    found = norms(layer, x)
    assert {"self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"} <= found.keys()
    assert torch.allclose(
        found["self_attn.in_proj_weight"].expand(24, 8), x.flatten(0, 1).norm(dim=0).expand(24, 8), atol=1e-5
    )
    assert torch.backends.mha.get_fastpath_enabled()


# --------------------------------------------------------------------------------------------------- gradients


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.head, self.unused = nn.Linear(4, 3), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.drop(self.norm(self.conv(x)).relu()).mean((2, 3)))
        return y


def images(n: int) -> list[Tensor]:
    return [torch.randn(3, 2, 6, 6) for _ in range(n)]


def test_one_gradient_for_each_batch() -> None:
    model, batches = Net().eval(), images(3)
    found = list(facts(model, task_of(batches), frozenset({"gradient"}), 2))
    assert len(found) == 2
    for one, batch in zip(found, batches, strict=False):
        model.zero_grad()
        mean_square(model, batch).backward()
        for name, parameter in model.named_parameters():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert torch.allclose(one.gradient[name], expected, atol=1e-6), name


def test_both_needs_come_together_and_norms_are_complete() -> None:
    model, batches = Net(), images(3)
    found = list(facts(model, task_of(batches), frozenset({"gradient", "activation_norm"}), 8))
    assert len(found) == 3
    whole = norms(model, *batches)
    for one in found:
        assert torch.allclose(one.activation_norm["head.weight"], whole["head.weight"])
        assert one.gradient.keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize("needs", [{"gradient"}, {"activation_norm"}, {"gradient", "activation_norm"}])
def test_the_model_is_left_as_it_was(needs: set[Need]) -> None:
    model = Net().train()
    model.norm.eval()
    model.conv.weight.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    before = copy.deepcopy(model.state_dict())
    list(facts(model, task_of(images(2)), frozenset(needs), 2))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [m.training for m in (model, model.conv, model.norm, model.drop)] == [True, True, False, True]
    assert not model.conv.weight.requires_grad and model.head.weight.requires_grad
    assert torch.equal(model.head.weight.grad, torch.ones_like(model.head.weight))


def test_weights_alone_touch_no_data() -> None:
    [found] = facts(Net(), task_of([]), frozenset({"weight"}), 1)
    assert not found.gradient and not found.activation_norm


def test_no_data_is_refused() -> None:
    with pytest.raises(SecateursError, match="task toy: split 'train' is empty"):
        list(facts(Net(), task_of([]), frozenset({"gradient"}), 4))
    nowhere = Task("toy", (), {"final": []}, mean_square, lambda m, b: (b, b), no_quality)  # type: ignore[arg-type]
    with pytest.raises(SecateursError, match="task toy has no split 'train' to calibrate on; it has final"):
        list(facts(Net(), nowhere, frozenset({"activation_norm"}), 4))


@pytest.mark.parametrize("need", ["gradient", "activation_norm"])
def test_a_loss_that_is_not_finite_names_its_batch(need: Need) -> None:
    batches = images(3)
    batches[1][0, 0, 0, 0] = torch.nan
    model = Net()
    with pytest.raises(SecateursError, match="the loss of calibration batch 2 is nan"):
        list(facts(model, task_of(batches), frozenset({need}), 3))
    assert model.training


def test_a_loss_that_is_no_number_or_has_no_gradient() -> None:
    with pytest.raises(SecateursError, match=r"the loss of calibration batch 1 is of shape \(3, 3\)"):
        list(facts(Net(), task_of(images(1), lambda m, b: m(b)), frozenset({"gradient"}), 1))
    with pytest.raises(SecateursError, match="the loss has no gradient"):
        list(facts(Net(), task_of(images(1), lambda m, b: m(b).sum().detach()), frozenset({"gradient"}), 1))


# ------------------------------------------------------------------------------------------------------ scores

CHANNELS = Group("conv", 4, (Member("conv.weight", (0,)), Member("norm.running_mean", (0,), scored=False)), 4)
NEURONS = Group("head", 4, (Member("conv.weight", (0,)), Member("head.weight", (1,))), 4)


def test_scores_are_the_mean_over_batches_of_the_squared_gate() -> None:
    model, batches = Net().eval(), images(3)
    found = scores(model, [CHANNELS], Taylor(), task_of(batches), 3)
    expected = torch.zeros(4)
    for batch in batches:
        model.zero_grad()
        mean_square(model, batch).backward()
        assert model.conv.weight.grad is not None
        expected += (model.conv.weight.grad * model.conv.weight).sum((1, 2, 3)).square().detach() / 3
    assert torch.allclose(found["conv"], expected, rtol=1e-4)


def test_scores_of_all_members_and_of_single_weights() -> None:
    model, batches = Net(), images(2)
    every = Group("every", 12, (Member("head.weight", (0, 1)),), 4)
    found = scores(model, [NEURONS, every], Wanda(), task_of(batches), 2)
    norm = norms(model, *batches)
    products = model.head.weight.detach().abs() * norm["head.weight"]
    inner = (model.conv.weight.detach().abs() * norm["conv.weight"]).sum((1, 2, 3))
    assert torch.allclose(found["every"], products.flatten(), rtol=1e-4)
    assert torch.allclose(found["head"], products.sum(0) + inner, rtol=1e-4)


def test_single_weights_that_no_batch_reaches_are_worth_nothing_to_who_weighs_by_activations() -> None:
    model = nn.ModuleDict({"met": nn.Linear(4, 2), "unmet": nn.Linear(4, 2)})
    groups = [Group(name, 8, (Member(f"{name}.weight", (0, 1)),), 4) for name in model]
    task = task_of([torch.randn(3, 4)], lambda model, batch: model["met"](batch).square().mean())
    found = scores(model, groups, Wanda(), task, 1)
    assert found["met"].all() and not found["unmet"].any()


def test_scores_do_not_hold_the_graph_and_lie_on_the_cpu() -> None:
    found = scores(Net(), [CHANNELS], Magnitude(), task_of([]), 1)["conv"]
    assert not found.requires_grad and found.device.type == "cpu" and found.dtype == torch.float32


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (Group("bare", 4, (Member("norm.running_mean", (0,), scored=False),), 4), "bare has no weight to score"),
        (
            Group("lost", 4, (Member("tail.weight", (0,)),), 4),
            "lost names 'tail.weight', which the model does not have",
        ),
    ],
)
def test_groups_that_cannot_be_scored(group: Group, message: str) -> None:
    with pytest.raises(SecateursError, match=message):
        scores(Net(), [group], Magnitude(), task_of([]), 1)


def test_weights_that_are_not_finite() -> None:
    model = Net()
    with torch.no_grad():
        model.conv.weight[1, 0, 0, 0] = torch.nan
    with pytest.raises(SecateursError, match=r"conv\.weight holds NaN or infinite weights"):
        scores(model, [CHANNELS], Magnitude(), task_of([]), 1)


def test_a_criterion_knows_the_matrix_that_single_weights_are_of() -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(8, 3)
    [group] = Weight()(trace(model, (x,)))
    task = task_of([x])
    size = model.get_parameter("0.weight").detach().abs()
    expected = (size / size.sum(0) + size / size.sum(1, keepdim=True)) * x.norm(dim=0).sqrt()
    torch.testing.assert_close(scores(model, [group], Ria(), task, 1)["0.weight"], expected.flatten())


class Odd:
    needs = frozenset({"weight"})

    def __init__(self, score: Tensor) -> None:
        self.score = score

    def __repr__(self) -> str:
        return "Odd()"

    def __call__(self, rows: Any) -> Tensor:
        return self.score


def test_criteria_that_misbehave() -> None:
    with pytest.raises(SecateursError, match=r"Odd\(\) gave conv scores of shape \(3,\), not one per unit"):
        scores(Net(), [CHANNELS], Odd(torch.ones(3)), task_of([]), 1)  # type: ignore[arg-type]
    with pytest.raises(SecateursError, match=r"Odd\(\) gave conv scores that are not a number"):
        scores(Net(), [CHANNELS], Odd(torch.full((4,), torch.nan)), task_of([]), 1)  # type: ignore[arg-type]


def test_what_a_criterion_refuses_is_said_of_its_group() -> None:
    class Refuses(Odd):
        def __call__(self, rows: Any) -> Tensor:
            return Obs()(rows)

    with pytest.raises(SecateursError, match=r"^conv: obs: no weight .* use taylor, or name the group in .* keep"):
        scores(Net(), [CHANNELS], Refuses(torch.ones(4)), task_of([]), 1)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- second moments


class Heads(nn.Module):
    """Two heads of three and another pair of inputs, one after the other, read by one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.read(x)
        return out


def test_second_moments_are_of_the_inputs_that_are_the_units_one_unit_after_the_other() -> None:
    seen: list[Rows] = []

    @dataclass(frozen=True)
    class Look:
        needs: ClassVar[frozenset[Need]] = frozenset({"gram"})

        def __call__(self, rows: Sequence[Rows]) -> Tensor:
            seen.extend(rows)
            return torch.zeros(len(rows[0].weight))

    model, x = Heads(), torch.randn(5, 8)
    index = torch.tensor([[5, 6, 7], [0, 2, 4]])
    reads = Member("read.weight", (1,), index)
    makes = Member("read.weight", (0,), torch.tensor([[0], [2]]), reads=False)
    scores(model, [Group("heads", 2, (reads, makes), 2, ("heads",))], Look(), task_of([x[:3], x[3:]]), 2)
    read, made = seen
    order = index.flatten()
    assert read.gram is not None and made.gram is None
    assert torch.allclose(read.gram.matrix, (x.T @ x)[order][:, order], atol=1e-5)
    assert torch.equal(read.weight.reshape(6, 4), model.read.weight.detach().T[order])
