"""What every recovery must keep to, whichever it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateurs.recoveries
from secateurs.types import Recovery, Task

NAMES = sorted(p.stem for p in Path(secateurs.recoveries.__path__[0]).glob("*.py") if not p.stem.startswith("_"))
MakeTask = Callable[..., Task]


def recovery(name: str) -> Recovery:
    if name == "lora":
        pytest.importorskip("peft")
    made: Any = getattr(import_module(f"secateurs.recoveries.{name}"), "".join(w.capitalize() for w in name.split("_")))
    return made()  # type: ignore[no-any-return]


def masks(network: nn.Module) -> dict[str, Tensor]:
    """Five of the twelve hidden units, wherever they live; as broadcastable or full masks."""
    keep = torch.tensor([i % 5 != 0 and i != 7 for i in range(12)])
    rows = {"0.weight": keep[:, None], "4.weight": keep[None, :].expand(2, 12)}
    return rows | {name: keep for name in ("0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")}


def zero_(network: nn.Module, dropped: dict[str, Tensor]) -> None:
    state = network.state_dict()
    for name, keep in dropped.items():
        state[name].masked_fill_(~keep, 0)


@pytest.mark.parametrize("name", NAMES)
def test_is_a_recovery(name: str) -> None:
    assert isinstance(recovery(name), Recovery)


@pytest.mark.parametrize("name", NAMES)
def test_dropped_units_stay_dropped(name: str, network: nn.Module, make_task: MakeTask) -> None:
    dropped = masks(network)
    zero_(network, dropped)
    recovery(name)(network, dropped, make_task(), copy.deepcopy(network))
    state = network.state_dict()
    for tensor, keep in dropped.items():
        assert not state[tensor][(~keep).expand_as(state[tensor])].any(), tensor
        assert torch.isfinite(state[tensor]).all(), tensor


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_modes_and_identities_stay(name: str, training: bool, network: nn.Module, make_task: MakeTask) -> None:
    network.train(training)
    network[3].train(not training)
    network[0].weight.requires_grad_(False)
    before = {n: t.data_ptr() for n, t in network.state_dict().items()}
    modes = [m.training for m in network.modules()]
    recovery(name)(network, {}, make_task(), copy.deepcopy(network))
    assert [m.training for m in network.modules()] == modes
    assert {n: t.data_ptr() for n, t in network.state_dict().items()} == before
    assert not network[0].weight.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_weights(name: str, network: nn.Module, make_task: MakeTask) -> None:
    first = {n: t.clone() for n, t in network.state_dict().items()}
    ends = []
    for _ in range(2):
        network.load_state_dict(first)
        torch.manual_seed(3)
        recovery(name)(network, {}, make_task(), copy.deepcopy(network))
        ends.append({n: t.clone() for n, t in network.state_dict().items()})
    for tensor in first:
        assert torch.equal(ends[0][tensor], ends[1][tensor]), tensor
