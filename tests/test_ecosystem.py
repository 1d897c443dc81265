"""What people do with a network after pruning: train, generate, compile, export, copy, move to half precision.

Every network here lost another number of units in every layer, so nothing about it is uniform.
"""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from networks import NETWORKS, groups_of
from secateurs import surgery, trials
from secateurs.deploy import Transformers, save
from secateurs.graph import trace
from secateurs.graph.trace import forward, results, state
from secateurs.proof import Positions
from secateurs.repair import Repair
from secateurs.types import Group, Inputs, Plan

NAMES = ("bert", "llama", "gpt2", "t5", "vit", "resnet_bottleneck")
QUICK = ("resnet_bottleneck",)
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Pair:
    """The dense-shaped network with zeros, and the smaller one that computes the same."""

    masked: nn.Module
    small: nn.Module
    inputs: Inputs
    plan: Plan
    repairs: tuple[Repair, ...]
    positions: Positions


def uneven(groups: tuple[Group, ...]) -> Plan:
    """Drops another number of units from every group, at least one and at most half of each block."""
    keep = {}
    for i, group in enumerate(groups):
        gone = 1 + i % max(1, group.block // 2) if group.block > 1 else 0
        keep[group.name] = (torch.arange(group.n_units) * 7 + i) % group.block >= gone
    return Plan(keep)


@cache
def pair(name: str) -> Pair:
    torch.manual_seed(0)
    model, inputs = NETWORKS[name].build(), NETWORKS[name].inputs(2, NETWORKS[name].length)
    graph = trace(model, inputs)
    groups = groups_of(graph, without=("head_dim",))
    plan = uneven(groups)
    shrunk = surgery.shrink(model, groups, plan, graph, inputs)
    surgery.mask_(model, groups, plan)
    return Pair(model, shrunk.model, inputs, plan, shrunk.repairs, surgery.positions(model, groups, plan))


def call(model: nn.Module, inputs: Inputs) -> Any:
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def assert_alike(mine: tuple[Tensor, ...], theirs: tuple[Tensor, ...], tolerance: float = TOLERANCE) -> None:
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        assert a.shape == b.shape
        assert float((a - b).detach().abs().max()) <= tolerance * float(b.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_masked_network(name: str) -> None:
    """Where a weight stays, its gradient stays; so training the small network is training the masked one."""
    it = pair(name)
    small, masked = copy.deepcopy(it.small), copy.deepcopy(it.masked)
    for model in (small, masked):
        sum(t.square().mean() for t in results(call(model, it.inputs)) if t.is_floating_point()).backward()
    theirs = {n: p.grad for n, p in masked.named_parameters() if p.grad is not None}
    mine = {n: p.grad for n, p in small.named_parameters() if p.grad is not None}
    assert mine.keys() == theirs.keys()
    largest = max(float(g.abs().max()) for g in theirs.values())
    for (tensor, axis), stay in it.positions.items():
        if tensor in theirs:
            theirs[tensor] = theirs[tensor].index_select(axis, stay)
    for tensor, gradient in theirs.items():
        assert float((mine[tensor] - gradient).abs().max()) <= TOLERANCE * largest


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_a_network_of_its_own(name: str) -> None:
    it = pair(name)
    twin = copy.deepcopy(it.small)
    assert_alike(forward(twin, it.inputs), forward(it.small, it.inputs), 0.0)
    mine = {id(t) for _, t in state(it.small)}
    assert all(id(t) not in mine for _, t in state(twin))
    with torch.no_grad():
        next(twin.parameters()).zero_()
    assert bool(next(it.small.parameters()).any())


@pytest.mark.parametrize("name", NAMES)
def test_a_state_dict_goes_through_bytes_into_a_copy(name: str) -> None:
    it = pair(name)
    buffer = io.BytesIO()
    torch.save(it.small.state_dict(), buffer)
    buffer.seek(0)
    twin = copy.deepcopy(it.small)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    twin.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    assert_alike(forward(twin, it.inputs), forward(it.small, it.inputs), 0.0)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_it_is_compiled_whole_with_its_gradients(name: str) -> None:
    it = pair(name)
    wanted = forward(it.small, it.inputs)
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(it.small), backend="aot_eager", fullgraph=True)
    found = tuple(results(call(compiled, it.inputs)))
    torch._dynamo.reset()
    assert_alike(found, wanted)
    sum(t.square().mean() for t in found if t.requires_grad).backward()
    assert all(bool(p.grad.isfinite().all()) for p in compiled.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_exported(name: str) -> None:
    it = pair(name)
    args, kwargs = ((), it.inputs) if isinstance(it.inputs, dict) else (it.inputs, {})
    with torch.no_grad():
        exported = torch.export.export(it.small, args, kwargs, strict=False)
        assert_alike(tuple(results(call(exported.module(), it.inputs))), forward(it.small, it.inputs))


@pytest.mark.parametrize("name", NAMES)
def test_it_computes_in_half_precision(name: str, dtype: torch.dtype = torch.bfloat16) -> None:
    it = pair(name)

    def cast(x: Any) -> Any:
        return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x

    inputs = {k: cast(v) for k, v in it.inputs.items()} if isinstance(it.inputs, dict) else it.inputs
    mine = forward(copy.deepcopy(it.small).to(dtype), inputs)
    theirs = forward(copy.deepcopy(it.masked).to(dtype), inputs)
    assert {t.dtype for t in mine if t.is_floating_point()} == {dtype}
    assert_alike(mine, theirs, 0.1)


class _Recipe:
    def to_yaml(self) -> str:
        return "structure: [head, neuron]\n"


RELOAD = """
import sys, torch
from secateurs.deploy import load
for folder in sys.argv[1:]:
    out = load(folder)(**torch.load(f"{folder}/inputs.pt", weights_only=True))
    torch.save(out[0], f"{folder}/out.pt")
"""


def test_all_come_back_in_a_new_process(tmp_path: Path) -> None:
    for name in NAMES:
        it = pair(name)
        pruned: Any = SimpleNamespace(model=it.small, masked=it.masked, plan=it.plan, repairs=it.repairs)
        save(tmp_path / name, pruned, recipe=_Recipe(), manifest={}, build=Transformers.of(it.masked))
        torch.save(it.inputs, tmp_path / name / "inputs.pt")
    command = [sys.executable, "-c", RELOAD, *(tmp_path / name for name in NAMES)]
    seen = subprocess.run(command, check=False, capture_output=True, text=True)
    assert seen.returncode == 0, seen.stderr
    for name in NAMES:
        it = pair(name)
        found = torch.load(tmp_path / name / "out.pt", weights_only=True)
        assert_alike((found,), forward(it.small, it.inputs)[:1], 1e-6)


def prompts(lengths: tuple[int, ...]) -> dict[str, Tensor]:
    """Prompts of these lengths, padded on the left."""
    longest = max(lengths)
    ids, mask = torch.zeros(len(lengths), longest, dtype=torch.long), torch.zeros(len(lengths), longest).long()
    for row, n in enumerate(lengths):
        ids[row, longest - n :] = torch.randint(3, 40, (n,))
        mask[row, longest - n :] = 1
    return {"input_ids": ids, "attention_mask": mask}


CACHES = {"none": {"use_cache": False}, "dynamic": {"use_cache": True}, "static": {"cache_implementation": "static"}}


@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_generated_tokens_are_those_of_the_masked_network(name: str, cache: str, sampled: bool) -> None:
    it = pair(name)
    for lengths in ((3, 7, 1), (4,)):
        asked: dict[str, Any] = {**prompts(lengths), **CACHES[cache], "do_sample": sampled, "pad_token_id": 0}
        asked |= {"min_new_tokens": 4, "max_new_tokens": 4, "return_dict_in_generate": True, "output_logits": True}
        found = []
        for model in (it.small, it.masked):
            torch.manual_seed(1)
            found.append(model.generate(**asked))
        assert torch.equal(found[0].sequences, found[1].sequences)
        assert_alike(found[0].logits, found[1].logits)


@pytest.mark.parametrize("cached", [False, True], ids=["whole", "cached"])
def test_an_encoder_decoder_generates_the_same(cached: bool) -> None:
    it = pair("t5")
    ids = torch.randint(3, 40, (3, 7))
    asked = {"input_ids": ids, "max_new_tokens": 4, "use_cache": cached, "decoder_start_token_id": 0}
    assert torch.equal(it.small.generate(**asked), it.masked.generate(**asked))


class Normed(nn.Module):
    """A parametrised layer between two plain ones."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 8)
        self.normed = parametrizations.weight_norm(nn.Linear(8, 6))
        self.down = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.normed(torch.relu(self.up(x)))))


def test_a_parametrised_layer_stays_parametrised() -> None:
    model, inputs = Normed(), (torch.randn(3, 4),)
    graph = trace(model, inputs)
    groups, reasons = trials.provable(model, groups_of(graph), graph, inputs)
    assert reasons == {}
    small = surgery.shrink(model, groups, uneven(groups), graph, inputs).model
    assert torch.nn.utils.parametrize.is_parametrized(small.normed, "weight")
    masked = copy.deepcopy(model)
    surgery.mask_(masked, groups, uneven(groups))
    fresh = (torch.randn(5, 4),)
    assert_alike(forward(small, fresh), forward(masked, fresh))
