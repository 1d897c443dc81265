"""What ``torch.export`` wrote down is known, axis by axis, in the dims of the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks import NETWORKS, trained_
from secateurs.graph import trace
from secateurs.graph.rewrite import RewriteError, record
from secateurs.graph.trace import forward


class Flat(nn.Module):
    """Sizes as literals."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).view(-1, 6))


def test_every_step_has_axes_in_dims() -> None:
    model = trained_(Flat())
    recording = record(model, (torch.randn(3, 4),))
    (view,) = [node for node in recording.program.graph.nodes if "view" in str(node.target)]
    ((_, hidden),) = recording.axes[view.name]
    assert hidden == ("a.neurons",)
    assert recording.network.tensors == trace(model, (torch.randn(3, 4),)).tensors


@pytest.mark.parametrize("name", ["llama", "resnet_basic"])
def test_other_batches_and_lengths_run(name: str) -> None:
    model, inputs = NETWORKS[name].build(), NETWORKS[name].inputs(1, NETWORKS[name].length)
    program = record(model, inputs).program
    for batch in (1, 4):
        fresh: Any = NETWORKS[name].inputs(batch, NETWORKS[name].other_length)
        assert torch.allclose(forward(program, fresh)[0], forward(model, fresh)[0], atol=1e-5)


class Listed(nn.Module):
    def forward(self, xs: list[Tensor]) -> Tensor:
        return xs[0] + xs[1]


class Hidden(nn.Module):
    """Control flow by a value, which no list of operators holds."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if float(x.sum()) > 0 else x - 1


@pytest.mark.parametrize(
    ("model", "inputs", "why"),
    [
        (Listed(), ([torch.ones(2), torch.ones(2)],), "its input xs is no tensor"),
        (Hidden(), (torch.ones(2),), "torch.export refuses it"),
    ],
)
def test_what_cannot_be_written_down_is_one_line(model: nn.Module, inputs: tuple[Any, ...], why: str) -> None:
    with pytest.raises(RewriteError, match=why) as caught:
        record(model, inputs)
    assert "\n" not in str(caught.value)
