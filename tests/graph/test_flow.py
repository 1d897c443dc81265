from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graph.rules.tracing import Between, see
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


# ------------------------------------------------------------------------------------------------ what is dropped


def branch(m: Any, x: Tensor) -> Tensor:
    if bool(m.a(x).amax() > 0):
        x = -x
    out: Tensor = m.b(m.a(x))
    return out


def written(m: Any, x: Tensor, read: bool = True) -> Tensor:
    kept = torch.zeros(3, 7)
    view = kept[:, :1]
    h = m.a(x)
    kept[:, 0] = h.mean(1)
    out: Tensor = m.b(h) + (view.sum() if read else 0)
    return out


def stored(m: Any, x: Tensor) -> Tensor:
    h = m.a(x)
    m.seen.copy_(h.mean(1))
    out: Tensor = m.b(h)
    return out


def dropped(m: Any, x: Tensor) -> Tensor:
    h = m.a(x)
    h.mean(1).exp_().add_(2.0)
    out: Tensor = m.b(h)
    return out


@pytest.mark.parametrize(
    ("forward", "free"),
    [
        (dropped, True),
        (lambda m, x: written(m, x, read=False), True),
        (written, False),
        (stored, False),
        (branch, False),
        (lambda m, x: m.b(m.a(x)) + m.a(x).mean(1, keepdim=True), False),
    ],
)
def test_a_statistic_counts_where_something_comes_of_it(forward: Callable[..., Tensor], free: bool) -> None:
    it = see(forward, torch.randn(3, 4), a=nn.Linear(4, 6), b=nn.Linear(6, 2), seen=nn.Parameter(torch.zeros(3)))
    assert ("statistic" in it.reason("a.weight")) != free
    assert bool(it.proven()) == free


@pytest.mark.parametrize("wanted", [False, True])
def test_attention_weights_that_nobody_takes_leave_the_heads_free(wanted: bool) -> None:
    def forward(m: Any, x: Tensor) -> tuple[Tensor, ...]:
        x = m.a(x)
        out, weights = m.h(x, x, x)
        return (m.b(out), weights) if wanted else (m.b(out),)

    attention = nn.MultiheadAttention(12, 4, batch_first=True)
    it = see(forward, torch.randn(2, 5, 4), a=nn.Linear(4, 12), h=attention, b=nn.Linear(12, 2))
    assert (4 in it.free("h.out_proj.weight", 1)) != wanted


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_part_is_traced_as_any_other() -> None:
    part = torch.jit.script(nn.Sequential(nn.Linear(4, 6), nn.ReLU()))
    it = see(lambda m, x: m.b(m.a(x)), torch.randn(3, 4), a=part, b=nn.Linear(6, 2))
    assert it.free("b.weight", 1) == [6]
    assert it.proven()
