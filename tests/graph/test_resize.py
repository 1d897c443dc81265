"""Sizes that Python holds as literals follow the dims, operator by operator; the oracle is asked on other inputs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks import groups_of, trained_
from secateurs import surgery, trials
from secateurs.graph import recorded, trace
from secateurs.graph.trace import forward
from secateurs.program import Program
from secateurs.types import Plan


class Written(nn.Module):
    """Twelve hidden numbers, treated by code that knows there are twelve."""

    def __init__(self, code: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up, self.code = nn.Linear(5, 12), code
        self.down = nn.Linear(code(torch.zeros(2, 12)).shape[1], 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.code(self.up(x)))


CODES: dict[str, Callable[[Tensor], Tensor]] = {
    "view": lambda h: h.view(-1, 12).relu(),
    "reshape": lambda h: h.reshape(-1, 3, 4).transpose(1, 2).reshape(-1, 12),
    "unflatten": lambda h: h.unflatten(1, (3, 4)).relu().flatten(1),
    "slices": lambda h: torch.cat([h[:, :8].relu(), h[:, 8:12].sigmoid()], 1),
    "from_the_end": lambda h: torch.cat([h[:, :-5].relu(), h[:, -5:].sigmoid()], 1),
    "split": lambda h: torch.cat([part.relu() for part in h.split(5, 1)][::-1], 1),
    "split_with_sizes": lambda h: torch.cat([part.relu() for part in h.split([2, 7, 3], 1)][::-1], 1),
    "chunk": lambda h: torch.cat([h.chunk(2, 1)[0].relu(), h.chunk(2, 1)[1].tanh()], 1),
    "expand": lambda h: (h[:, None].expand(-1, 3, 12) * torch.ones(3, 1)).sum(1),
    "repeat": lambda h: h.view(-1, 12).repeat(1, 2),
    "repeat_interleave": lambda h: h.view(-1, 12).repeat_interleave(3, 1),
    "zeros": lambda h: h + h.new_zeros(h.shape[0], 12),
    "grouped": lambda h: F.conv1d(h.view(-1, 12, 1), torch.ones(12, 1, 1), groups=12).view(-1, 12),
    "batch_in_a_product": lambda h: h.view(h.shape[0] * 3, 4).relu().view(h.shape[0], 12),
}


@pytest.mark.parametrize("name", CODES)
def test_a_literal_size_follows_its_dim(name: str) -> None:
    model, inputs = trained_(Written(CODES[name])), (torch.randn(3, 5),)
    graph = recorded(trace(model, inputs), model, inputs)
    groups, _ = trials.provable(model, groups_of(graph), graph, inputs)
    gone = {group.name: min(1 + 2 * i, group.block - 1) for i, group in enumerate(groups)}
    plan = Plan({group.name: torch.arange(group.n_units) % group.block >= gone[group.name] for group in groups})
    small = surgery.shrink(model, groups, plan, graph, inputs).model
    masked = copy.deepcopy(model)
    surgery.mask_(masked, groups, plan)
    assert small.get_parameter("up.weight").shape[0] < 12
    for batch in (1, 4):
        x = (torch.randn(batch, 5),)
        assert torch.allclose(forward(small, x)[0], forward(masked, x)[0], atol=1e-5)
    assert isinstance(small, Program)
