from __future__ import annotations

import builtins
import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from secateurs.recoveries.lora import Lora
from secateurs.types import SecateursError, Task

MakeTask = Callable[..., Task]


def test_fields_are_checked() -> None:
    for field, value in (("rank", 0), ("alpha", 0.0), ("dropout", 1.0), ("epochs", 0.0)):
        with pytest.raises(SecateursError, match=f"{field} must be"):
            Lora(**{field: value})  # type: ignore[arg-type]


def test_without_peft_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, network: nn.Module, make_task: MakeTask
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("peft"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SecateursError, match=r"lora needs peft: pip install 'secateurs\[lora\]'"):
        Lora()(network, {}, make_task())


def test_it_learns_and_leaves_plain_weights_of_low_rank_change(network: nn.Module, make_task: MakeTask) -> None:
    pytest.importorskip("peft")
    task, dense = make_task(), copy.deepcopy(network)
    kinds, held = [type(module) for module in network.modules()], set(vars(network))
    before = {name: parameter.data_ptr() for name, parameter in network.named_parameters()}
    torch.manual_seed(0)
    Lora(rank=1, epochs=3.0, learning_rate=0.05, tolerance=0.0)(network, {}, task)
    assert [type(module) for module in network.modules()] == kinds
    assert set(vars(network)) == held
    assert {name: parameter.data_ptr() for name, parameter in network.named_parameters()} == before
    for name in ("0", "4"):
        change = network.get_parameter(f"{name}.weight") - dense.get_parameter(f"{name}.weight")
        values = torch.linalg.svdvals(change.detach())
        assert values[0] > 1e-3
        assert values[1] < 1e-5 * values[0]
        assert torch.equal(network.get_parameter(f"{name}.bias"), dense.get_parameter(f"{name}.bias"))
    batches = list(task.splits["train"])
    losses = [sum(float(task.loss(it.eval(), batch).detach()) for batch in batches) for it in (network, dense)]
    assert losses[0] < losses[1]


def test_a_network_without_layers_is_refused(make_task: MakeTask) -> None:
    pytest.importorskip("peft")

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :2] * self.weight

    with pytest.raises(SecateursError, match="lora: the network has no layer"):
        Lora()(Scale(), {}, make_task())
