"""What is found of a network on the meta device is what is found of it with weights."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, nn

import networks
from networks import NETWORKS
from secateurs import surgery
from secateurs.graph import trace
from secateurs.graph.weightless import UnknownValueError, has_values, weightless
from secateurs.prune import find_groups
from secateurs.structures.neuron import Neuron
from secateurs.types import Plan, SecateursError

NAMES = ("cifar_resnet", "recurrent", "torch_transformer", "bert", "llama", "t5", "mixtral", "vit", "resnet_bottleneck")


@pytest.mark.parametrize("name", NAMES)
def test_the_trace_without_weights_is_the_trace_with_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = NETWORKS[name].inputs(2, NETWORKS[name].length)
    real = trace(NETWORKS[name].build(), inputs)
    monkeypatch.setattr(networks, "trained_", nn.Module.eval)
    with torch.device("meta"):
        model = NETWORKS[name].build()
    assert not has_values(model)
    held = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    assert trace(model, inputs) == real
    after = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    assert all(a is b for (_, a), (_, b) in zip(held, after, strict=True))


class Reads(nn.Module):
    """Python takes another way by the sign of a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x if x.mean() > 0 else -x)


class Moves(nn.Module):
    """A layer that the forward pass moves to another precision, and puts back where it was."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)
        self.router = nn.Sequential(nn.Linear(6, 3, dtype=torch.bfloat16), nn.BatchNorm1d(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        self.router = self.router.to(torch.float32)
        return self.b(x) * self.router(x).amax(1, keepdim=True)


def test_a_module_is_moved_in_the_forward_pass() -> None:
    with torch.device("meta"):
        model = Moves()
    inputs = (torch.ones(3, 4),)
    assert trace(model, inputs) == trace(Moves(), inputs)
    assert not has_values(model) and model.router[0].weight.dtype is torch.bfloat16
    assert not any("_apply" in vars(module) for module in model.modules())


class Inner(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out


def test_a_number_that_is_not_known_is_refused_by_operator_and_module() -> None:
    with torch.device("meta"):
        model = Inner(Reads())
    with pytest.raises(
        UnknownValueError, match=r"^inner: aten\._local_scalar_dense reads values.* trace it with weights"
    ):
        trace(model, (torch.randn(3, 4),))
    assert not has_values(model)


class Picks(nn.Module):
    """Positions picked by what a layer computed."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return x[x.sum(1) > 0]


def test_a_number_of_results_that_is_not_known_is_refused() -> None:
    with torch.device("meta"):
        model = Picks()
    with pytest.raises(UnknownValueError, match="reads values"):
        trace(model, (torch.randn(3, 4),))


class Known(nn.Module):
    """Python reads the inputs, a range and a mask; what the layer computed is written into a known tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.a(x)
        places = torch.arange(x.shape[0], device=x.device)[mask]
        if bool(mask.all()) or places.max() > 2:
            raise ValueError
        out = torch.zeros(x.shape)
        out[places] = x[places]
        return self.b(out)


def test_inputs_and_what_code_makes_from_nothing_are_known() -> None:
    with torch.device("meta"):
        model = Known()
    inputs = (torch.randn(4, 4), torch.tensor([True, False, True, False]))
    assert trace(model, inputs) == trace(Known(), inputs)


class Written(nn.Module):
    """Known zeros are no longer known once something was written into them."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        held = torch.zeros(3, 6)
        held.copy_(self.a(x))
        return held * held[0].sum().item()


def test_what_was_written_over_is_not_known() -> None:
    with torch.device("meta"):
        model = Written()
    with pytest.raises(UnknownValueError, match="_local_scalar_dense"):
        trace(model, (torch.randn(3, 4),))


class Table(nn.Module):
    """Positions by numbers that a buffer holds, or that are written over with it."""

    def __init__(self, *, written: bool) -> None:
        super().__init__()
        self.a, self.b, self.written = nn.Linear(4, 6), nn.Linear(3, 2), written
        self.register_buffer("places", torch.arange(3))

    def forward(self, x: Tensor) -> Tensor:
        places = self.places.view(-1)
        if self.written:
            places = torch.arange(3).copy_(places)
        return self.b(self.a(x)[:, places])


@pytest.mark.parametrize("written", [False, True])
def test_positions_by_numbers_that_are_not_known_are_frozen(written: bool) -> None:
    with torch.device("meta"):
        model = Table(written=written)
    graph = trace(model, (torch.randn(3, 4),))
    assert {dim.frozen for dim in graph.dims.values() if dim.size == 6} == {"its positions are picked by data"}


def test_a_wrong_shape_is_said_in_one_line_and_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    with caplog.at_level(logging.ERROR), pytest.raises(SecateursError, match="fails on the example inputs") as caught:
        trace(model, (torch.randn(3, 5),))
    assert "\n" not in str(caught.value)
    assert not caplog.records
    assert logging.getLogger("torch._subclasses.fake_tensor").level != logging.CRITICAL


def test_a_network_with_weights_runs_as_it_is() -> None:
    model = nn.Linear(4, 6)
    with weightless(model):
        assert torch.equal(model(torch.ones(1, 4)), model.weight.sum(1)[None] + model.bias)


def test_groups_are_given_unproven_and_nothing_is_shrunk(caplog: pytest.LogCaptureFixture) -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    inputs = (torch.randn(3, 4),)
    graph = trace(model, inputs)
    with caplog.at_level(logging.WARNING, "secateurs.prune"):
        groups = find_groups(model, (Neuron(),), graph, inputs)
    assert groups == Neuron()(graph)
    assert "not proven" in caplog.text
    with pytest.raises(SecateursError, match="no weights"):
        surgery.shrink(model, groups, Plan({groups[0].name: torch.arange(6) > 2}), graph, inputs)
