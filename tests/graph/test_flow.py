from __future__ import annotations

import torch
from torch import Tensor, nn

from graph.rules.tracing import Between
from secateurs.graph.flow import Flow, Passed
from secateurs.graph.rules import rule_for
from secateurs.graph.trace import Trace, run


def flow_of(model: nn.Module, *inputs: Tensor) -> Flow:
    trace = Trace()
    run(trace, model, inputs, rule_for)
    return trace.flow


def steps(flow: Flow) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    return {step.operator.removeprefix("aten."): (step.reads, step.makes) for step in flow.steps}


def test_values_lead_from_step_to_step() -> None:
    flow = flow_of(Between(lambda self, x: self.a(x).relu() * 2, a=nn.Linear(3, 3)), torch.randn(2, 3))
    found = steps(flow)
    assert found["addmm"][1] == found["relu"][0]
    assert found["mul"][1] == tuple(flow.results)
    assert flow.stored["a.bias"] in found["addmm"][0]
    assert [(step.module, step.is_product) for step in flow.steps if step.operator == "aten.addmm"] == [("a", True)]
    assert [step.module for step in flow.steps if step.operator == "aten.mul"] == [""]


def test_a_write_in_place_makes_a_new_value_for_all_who_share_the_memory() -> None:
    def writes(self: nn.Module, x: Tensor) -> Tensor:
        y = x.exp()
        part = y[:, :2]
        part.mul_(3)
        return y.cos()

    found = steps(flow_of(Between(writes), torch.randn(2, 3)))
    assert found["cos"][0] == found["mul_"][1] != found["exp"][1]


def test_visits_say_what_a_module_is_given_and_gives() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor, *, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None, None]:
            return x * 2, bias, None

    flow = flow_of(Between(lambda self, x: self.pair(x, bias=x.exp())[0], pair=Pair()), torch.randn(2, 3))
    [visit] = flow.visits["pair"]
    assert [(argument.name, argument.position) for argument in visit.arguments] == [("x", 0), ("bias", 1)]
    first, handed_on, nothing = visit.output  # type: ignore[misc]
    assert isinstance(first, Passed) and first.value in flow.results
    assert handed_on == visit.arguments[1] and nothing is None and visit.clear


def test_an_output_in_a_form_that_cannot_be_made_again_is_not_clear() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"x": x * 2}

    flow = flow_of(Between(lambda self, x: self.both(x)["x"], both=Both()), torch.randn(2, 3))
    assert not flow.visits["both"][0].clear


def test_no_hook_is_left() -> None:
    model = Between(lambda self, x: self.a(x), a=nn.Linear(3, 3))
    flow_of(model, torch.randn(2, 3))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
