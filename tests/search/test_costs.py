"""C, T and E of two networks side by side."""

from __future__ import annotations

import copy

import pytest
from torch import nn

from secateurs.measures.energy import Energy
from secateurs.search import Budget
from secateurs.search.costs import Costs, Sides
from secateurs.types import Reading, SecateursError, Task

SHORT = Budget(1e-3, 1e-3)


def smaller(net: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 2)).eval()


def test_computation_is_counted(net: nn.Module, task: Task) -> None:
    sides = Costs(net, task, SHORT).computation(smaller(net))
    assert sides.dense["macs"].value == 8 * (2 * 24 + 24 * 24 + 24 * 2)
    assert sides.pruned["macs"].value == 8 * (2 * 12 + 12 * 12 + 12 * 2)
    assert sides.ratio["macs"].value == pytest.approx((48 + 144) / (96 + 576))
    assert {r.how for r in sides.ratio.values()} == {"counted"}
    assert sides.ratio["parameters"].value < 0.5


def test_time_is_a_ratio_with_its_interval(net: nn.Module, task: Task) -> None:
    sides = Costs(net, task, SHORT).time(copy.deepcopy(net))
    ratio = sides.ratio["latency"]
    assert ratio.spread is not None and ratio.spread[0] <= ratio.value <= ratio.spread[1]
    assert sides.dense["latency"].unit == "s" and sides.pruned["latency"].value > 0


def test_energy_names_its_meter_or_stays_away(net: nn.Module, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def both(self: Energy, baseline: nn.Module, model: nn.Module, inputs: object) -> tuple[Reading, Reading]:
        assert self.seconds == SHORT.energy_seconds and baseline is net
        return Reading("energy", 4.0, "J", "modelled", source="m"), Reading("energy", 1.0, "J", "modelled", source="m")

    monkeypatch.setattr(Energy, "both", both)
    ratio = Costs(net, task, SHORT).energy(smaller(net)).ratio["energy"]
    assert (ratio.value, ratio.how, ratio.source) == (0.25, "modelled", "m")

    def none(*_: object) -> None:
        raise SecateursError("no meter")

    monkeypatch.setattr(Energy, "both", none)
    assert Costs(net, task, SHORT).energy(smaller(net)) == Sides({}, {}, {})


def test_a_network_that_does_not_run_is_told(net: nn.Module, task: Task) -> None:
    with pytest.raises(SecateursError):
        Costs(net, task, SHORT).computation(nn.Linear(3, 1))


@pytest.mark.parametrize("name", ["latency_seconds", "energy_seconds", "final_latency_seconds", "threads"])
def test_a_budget_is_above_zero(name: str) -> None:
    with pytest.raises(SecateursError, match=name):
        Budget(**{name: 0})  # type: ignore[arg-type]


def test_the_report_has_a_budget_of_its_own() -> None:
    budget = Budget(1, 2, 3, 4, batch_size=5).final
    assert (budget.latency_seconds, budget.energy_seconds, budget.batch_size) == (3, 4, 5)
