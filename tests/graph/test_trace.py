from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateurs.graph import trace
from secateurs.graph.rules import rule_for
from secateurs.graph.trace import Trace, forward, results, run, state, unswept
from secateurs.types import SecateursError


class Odd(nn.Module):
    """An operator that no rule covers, between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.renorm(self.a(x), 2, 0, 1.0))


def test_an_operator_without_a_rule_freezes_what_it_touches_by_its_name() -> None:
    graph = trace(Odd().eval(), (torch.randn(3, 4),))
    assert graph.unknown == {"aten.renorm"}
    assert "aten.renorm" in (graph.dims["a.neurons"].frozen or "")


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2)).train()
    model[2].eval()
    before = {name: tensor.clone() for name, tensor in state(model)}
    fast = torch.backends.mha.get_fastpath_enabled()
    trace(model, (torch.randn(3, 4),))
    assert [module.training for module in model] == [True, True, False, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in state(model))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_a_forward_that_fails_is_said_in_one_line_and_leaves_the_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)).train()
    with pytest.raises(SecateursError, match="fails on the example inputs") as caught:
        trace(model, (torch.randn(3, 5),))
    assert "\n" not in str(caught.value)
    assert model.training


def test_results_are_the_tensors_returned_and_no_hidden_state() -> None:
    class Cache:
        def __init__(self) -> None:
            self.keys = torch.ones(2)

    out: dict[str, Any] = {"logits": torch.zeros(1), "cache": Cache(), "more": [torch.ones(1), (torch.ones(3),)]}
    assert [tuple(tensor.shape) for tensor in results(out)] == [(1,), (1,), (3,)]


def test_control_flow_is_followed() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.a(x))
            while h.shape[0] > 1:
                h = torch.relu(self.b(h))[: h.shape[0] // 2]
            return self.c(h)

    graph = trace(Steps().eval(), (torch.randn(8, 4),))
    assert [dim.size for dim in graph.dims.values() if dim.frozen is None] == [6], "b reads what it wrote: one dim"


def test_parameters_and_buffers_come_once_by_their_first_name() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    names = [name for name, _ in state(model)]
    assert names.count("0.weight") == 1
    assert "2.weight" not in names
    assert "1.running_mean" in names


def test_one_tensor_given_twice_is_two_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 2)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.a(x) + self.a(y)

    x = torch.randn(3, 4)
    assert trace(Two().eval(), (x, x)).dims["a.input"].frozen == "an input of the model"


def test_labels_of_intermediate_results_do_not_outlive_them() -> None:
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(20))).eval()
    found = Trace()
    run(found, model, (torch.randn(2, 8),), rule_for)
    assert len(found.labels) <= 2 * 20, "only parameters are left"


def test_forward_runs_in_evaluation_mode_on_the_model_s_device() -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(4, 2)).train()
    x = torch.randn(3, 4)
    (first,), (second,) = forward(model, (x,)), forward(model, (x,))
    assert torch.equal(first, second)
    assert model.training


@dataclass
class Answer:
    logits: Tensor
    note: str = "no tensor"


def test_a_dataclass_is_a_result() -> None:
    class Answering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Answer:
            return Answer(self.a(x))

    assert [tuple(tensor.shape) for tensor in results(Answer(torch.ones(3)))] == [(3,)]
    assert trace(Answering().eval(), (torch.randn(3, 4),)).dims["a.output"].frozen == "an output of the model"


def test_a_network_that_returns_no_tensor_is_refused() -> None:
    class Silent(nn.Linear):
        def forward(self, x: Tensor) -> str:  # type: ignore[override]
            return str(super().forward(x).shape)

    with pytest.raises(SecateursError, match="returns no tensor"):
        trace(Silent(4, 2), (torch.randn(3, 4),))


def test_inputs_by_name_and_by_position_give_the_same() -> None:
    model = Odd().eval()
    x = torch.randn(3, 4)
    assert trace(model, (x,)).dims == trace(model, {"x": x}).dims


def test_a_parameter_given_as_input_stays_a_parameter() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
    graph = trace(model, (model[0].weight,))
    assert graph.dims["0.neurons"].frozen is None


def test_a_layer_that_torch_runs_in_one_operator_is_seen_through() -> None:
    layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True).eval()
    before = torch.backends.mha.get_fastpath_enabled()
    graph = trace(nn.Sequential(layer, nn.Linear(6, 3)), (torch.randn(2, 5, 6),))
    assert not graph.unknown
    assert graph.dims["0.ffn"].size == 8 and graph.dims["0.ffn"].frozen is None
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_the_shortcut_of_torch_is_allowed_again_after_a_failure() -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(SecateursError):
        trace(nn.Linear(4, 2), (torch.randn(3, 5),))
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_buffers_that_are_not_saved_carry_dims_too() -> None:
    class Signed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)
            self.register_buffer("sign", 1 - 2.0 * (torch.arange(6) % 2), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x) * self.sign)

    graph = trace(Signed().eval(), (torch.randn(3, 4),))
    assert "sign[0]" in graph.dims["a.neurons" if "a.neurons" in graph.dims else "neurons"].carriers
    assert "sign" not in graph.trainable


def test_integers_that_meet_a_dim_freeze_it() -> None:
    class Numbered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)
            self.register_buffer("number", torch.arange(6))

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x) * self.number)

    frozen = {dim.frozen for dim in trace(Numbered().eval(), (torch.randn(3, 4),)).dims.values() if dim.size == 6}
    assert frozen == {"integers index it"}


def test_the_same_network_traced_twice_gives_the_same_graph() -> None:
    model, x = Odd().eval(), torch.randn(3, 4)
    assert trace(model, (x,)) == trace(model, (x,))


class Keeper(nn.Module):
    """What a pass finds it keeps for the next one, in every way that Python has."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 6)
        self.by_name: dict[str, Tensor] = {}
        self.all: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if "bias" not in self.by_name:
            self.by_name["bias"] = self.a.bias * 2
            self.last = x
        self.all.append(x)
        return self.a(x) + self.by_name["bias"] + torch.rand(6)


def test_what_a_pass_keeps_for_the_next_one_is_dropped() -> None:
    model = Keeper()
    before = torch.get_rng_state()
    (first,) = forward(model, (torch.ones(2, 4),))
    assert (model.by_name, model.all) == ({}, [])
    assert not hasattr(model, "last")
    assert torch.equal(before, torch.get_rng_state())
    with torch.no_grad():
        model.a.bias.zero_()
    (second,) = forward(model, (torch.ones(2, 4),))
    assert not torch.allclose(first, second)


def test_random_numbers_are_the_same_in_every_pass() -> None:
    model = nn.Sequential(nn.Linear(4, 6), Noise())
    (first,), (second,) = (forward(model, (torch.ones(2, 4),)) for _ in range(2))
    assert torch.equal(first, second)


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


def test_a_hook_that_a_pass_registers_goes_with_the_note_that_it_is_there() -> None:
    class Hooked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.hooked = nn.Linear(4, 6), False

        def forward(self, x: Tensor) -> Tensor:
            if not self.hooked:
                self.a.register_forward_hook(lambda module, inputs, output: output + 1)
                self.hooked = True
            return self.a(x)

    model = Hooked()
    (first,), (second,) = (forward(model, (torch.ones(2, 4),)) for _ in range(2))
    assert torch.equal(first, second)
    assert not model.hooked and not model.a._forward_hooks


@pytest.mark.parametrize("enabled", [True, False])
def test_rubbish_is_looked_for_after_a_pass_as_before_it(enabled: bool) -> None:
    was, during = gc.isenabled(), []
    (gc.enable if enabled else gc.disable)()
    try:
        with unswept():
            during.append(gc.isenabled())
        assert (during, gc.isenabled()) == ([False], enabled)
    finally:
        (gc.enable if was else gc.disable)()
