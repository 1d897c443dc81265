"""The property of the whole engine: the network with removed entries zeroed computes what the shrunk one computes.

``surgery.shrink`` proves it on the example inputs. Here it is seen on inputs that surgery never saw, of another batch
size, another length and with padding, over random plans of all groups at once; and that what the graph says of sizes
and costs is what the shrunk network has.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from graph.rules.tracing import trace_checked
from networks import NETWORKS, groups_of
from secateurs import surgery, trials
from secateurs.graph import Graph, trace
from secateurs.graph.agreement import TOLERANCE, reference
from secateurs.graph.statistics import passing
from secateurs.graph.trace import forward, results
from secateurs.types import Group, Inputs, Plan

ONLY_SINGLE = {"mixtral"}
"""An operator that they need knows no double precision."""

WITH_NORMS = [
    "squeeze_excitation",
    "own_attention",
    "bert",
    "bert_eager",
    "distilbert",
    "albert",
    "llama",
    "llama_eager",
    "qwen2",
    "qwen3",
    "gpt2",
    "gpt_neox",
    "mixtral",
    "vit",
    "swin",
    "convnext",
    "mobilevit",
    "wav2vec2",
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads cost more than they bring on networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Subject:
    model: nn.Module
    inputs: Inputs
    graph: Graph
    groups: tuple[Group, ...]


@cache
def subject(name: str, *, flagged: bool = False) -> Subject:
    torch.manual_seed(0)
    model = NETWORKS[name].build()
    inputs = NETWORKS[name].inputs(2, NETWORKS[name].length)
    graph = trace_checked(model, inputs)
    groups = groups_of(
        graph, without=("head_dim",), flagged=flagged
    )  # what Python keeps of it is shared by keys and values
    passed, reasons = trials.provable(model, groups, graph, inputs)
    assert reasons == {}
    return Subject(model, inputs, graph, passed)


def fresh_inputs(name: str) -> Inputs:
    inputs = NETWORKS[name].inputs(3, NETWORKS[name].other_length)
    if isinstance(inputs, dict) and "attention_mask" in inputs:
        inputs["attention_mask"][0, -2:] = 0
    return inputs


@st.composite
def plans(draw: st.DrawFn, groups: tuple[Group, ...]) -> Plan:
    """For some groups how many units are kept in each block, at least one, and which."""
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    keep = {}
    for group in groups:
        fewest = -(-group.least // group.multiple)
        count = draw(st.integers(fewest, group.block // group.multiple)) * group.multiple
        if draw(st.booleans()):
            ranks = torch.rand(group.n_blocks, group.block, generator=random).argsort().argsort()
            keep[group.name] = (ranks < count).flatten()
    return Plan(keep)


def gradients(model: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    model.zero_grad()
    out = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    sum(t.square().mean() for t in results(out) if t.is_floating_point()).backward()  # type: ignore[union-attr]
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def check(name: str, plan: Plan, *, flagged: bool = False) -> None:
    it = subject(name, flagged=flagged)
    shrunk = surgery.shrink(it.model, it.groups, plan, it.graph, it.inputs).model
    masked = copy.deepcopy(it.model)
    surgery.mask_(masked, it.groups, plan)
    fresh = fresh_inputs(name)
    run = passing(it.graph, it.groups, plan) if flagged else forward
    wanted = reference(masked, fresh, run)  # in double precision, where rounding hides nothing
    assert wanted.tolerance == TOLERANCE or name in ONLY_SINGLE
    assert any(t.is_floating_point() for t in wanted.outputs)
    assert wanted.difference(shrunk) == ""

    sizes = surgery.sizes_after(it.groups, plan, it.graph)
    assert sum(p.numel() for p in shrunk.parameters()) == it.graph.parameters(sizes)
    assert trace(shrunk, it.inputs).macs() == it.graph.macs(sizes)

    dense, small = gradients(copy.deepcopy(it.model), fresh), gradients(shrunk, fresh)
    assert small.keys() == dense.keys()
    assert all(bool(gradient.isfinite().all()) for gradient in small.values())


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=3)
@given(data=st.data())
def test_masked_and_shrunk_agree(name: str, data: st.DataObject) -> None:
    check(name, data.draw(plans(subject(name).groups)))


@pytest.mark.parametrize("name", WITH_NORMS)
@settings(max_examples=3)
@given(data=st.data())
def test_over_flagged_dims_the_reference_and_shrunk_agree(name: str, data: st.DataObject) -> None:
    check(name, data.draw(plans(subject(name, flagged=True).groups)), flagged=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=100)
@given(data=st.data())
def test_masked_and_shrunk_agree_on_many_plans(name: str, data: st.DataObject) -> None:
    check(name, data.draw(plans(subject(name).groups)))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_outputs_would_show_a_difference(name: str) -> None:
    """No network of the zoo is dead: its outputs follow its inputs, and half of its units cannot go unnoticed."""
    it = subject(name)
    plan = Plan({group.name: torch.arange(group.n_units) % 2 == 0 for group in it.groups})
    masked = copy.deepcopy(it.model)
    surgery.mask_(masked, it.groups, plan)
    (first, *_), (other, *_) = forward(it.model, it.inputs), forward(it.model, NETWORKS[name].inputs(2, 6))
    assert float((first - other).abs().max()) > 1e-3 * float(first.abs().max())
    assert float((first - forward(masked, it.inputs)[0]).abs().max()) > 1e-3 * float(first.abs().max())
