from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from secateurs.recoveries.nothing import Nothing
from secateurs.types import Task


def test_changes_nothing(network: nn.Module, make_task: Callable[..., Task]) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    Nothing()(network, {"0.weight": torch.zeros(12, 1, dtype=torch.bool)}, make_task())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
