"""What modules in lists cost; what else dims and groups cost is tested with the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graph.rules.tracing import see
from secateurs.graph import pricing
from secateurs.structures.expert import Expert


def all_of_them(self: Any, x: Tensor) -> Tensor:
    weights = self.router(x).softmax(-1)
    out: Tensor = sum(weights[:, i, None] * it(x) for i, it in enumerate(self.experts))  # type: ignore[assignment]
    return out


def the_best(self: Any, x: Tensor) -> Tensor:
    out, best = torch.zeros_like(x), self.router(x).argmax(-1)
    for i, expert in enumerate(self.experts):
        out[best == i] = expert(x[best == i])
    return out


@pytest.mark.parametrize(("run", "share"), [(all_of_them, 1), (the_best, 0)])
def test_an_expert_in_a_list_costs_its_parameters_and_work_where_all_of_them_work(run: Any, share: int) -> None:
    experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(5))
    it = see(run, torch.randn(9, 4), router=nn.Linear(4, 5), experts=experts)
    [group] = Expert()(it.graph)
    name, macs = group.name, 9 * 4 + share * 9 * 4 * 4
    assert pricing.saving(it.graph, name, "parameters") == 5 + 20
    assert pricing.saving(it.graph, name, "macs") == macs
    assert it.graph.parameters({name: 3}) == 3 * 25 and it.graph.parameters() == 5 * 25
    assert it.graph.macs({name: 3}) == it.graph.macs() - 2 * macs
    for currency in ("parameters", "macs"):
        price = it.graph.price([group], currency)
        saved = price.of({name: 5}) - price.of({name: 2})
        assert saved == 3 * price.unit[name] == 3 * pricing.saving(it.graph, name, currency)
