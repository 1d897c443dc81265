from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks import groups_of, trained_
from secateurs.graph import trace
from secateurs.surgery import shrink
from secateurs.trials import provable
from secateurs.types import Group, Plan


def less(groups: tuple[Group, ...]) -> Plan:
    return Plan({group.name: torch.arange(group.n_units) % 3 != 1 for group in groups})


def test_a_network_that_computes_something_else_is_caught() -> None:
    class Counting(nn.Module):
        """Divides by how many there are: what the masked one counts, the small one does not."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.a(x))
            return self.b(h / h.shape[1])

    model, inputs = trained_(Counting()), (torch.randn(3, 4),)
    network = trace(model, inputs)
    passed, reasons = provable(model, groups_of(network), network, inputs)
    assert not passed
    assert "differs from the masked one" in reasons["a.neurons"]


def test_half_precision_is_proven_and_stays_half() -> None:
    model, inputs = (
        trained_(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))).bfloat16(),
        (torch.randn(3, 4).bfloat16(),),
    )
    network = trace(model, inputs)
    groups = groups_of(network)
    shrunk = shrink(model, groups, less(groups), network, inputs).model
    assert {p.dtype for p in shrunk.parameters()} == {torch.bfloat16}


class Returning(nn.Module):
    """What a hidden layer scaled by its own size gives, in the form asked for: masked and shrunk always differ."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.form = form
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Any:
        h = torch.relu(self.a(x))
        return self.form(self.b(h * h.shape[1] ** 0.5))


@dataclass
class Answer:
    logits: Tensor


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        (lambda y: {"logits": [y, (y + 1,)]}, "differs from the masked one"),
        (Answer, "differs from the masked one"),
        (lambda y: torch.complex(y, -y), "differs from the masked one"),
        (lambda y: y.bfloat16(), "differs from the masked one"),
        (lambda y: (100 * y).long(), "picks other positions than the masked one"),
        (lambda y: y > y.mean(), ""),
    ],
)
def test_whatever_a_network_returns_is_compared(form: Callable[[Tensor], Any], problem: str) -> None:
    model, inputs = trained_(Returning(form)), (torch.randn(3, 4),)
    network = trace(model, inputs)
    _, reasons = provable(model, groups_of(network), network, inputs)
    assert problem in reasons.get("a.neurons", "")


def test_rounding_to_half_precision_hides_nothing() -> None:
    model, inputs = trained_(Returning(lambda y: y)).bfloat16(), (torch.randn(3, 4).bfloat16(),)
    network = trace(model, inputs)
    passed, reasons = provable(model, groups_of(network), network, inputs)
    assert not passed
    assert "differs from the masked one" in reasons["a.neurons"]


def test_a_precision_written_into_the_code_is_proven_in_that_one() -> None:
    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(self.a(x.bfloat16())))

    model, inputs = trained_(Halved()).bfloat16(), (torch.randn(3, 4),)
    network = trace(model, inputs)
    groups = groups_of(network)
    small = shrink(model, groups, less(groups), network, inputs).model
    assert small.a.weight.dtype == torch.bfloat16
    assert small.a.out_features < 6


def test_a_tensor_too_few_is_a_difference() -> None:
    class Telling(nn.Module):
        """Returns what it has hidden only where that is whole."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> list[Tensor]:
            h = torch.relu(self.a(x))
            return [self.b(h)] * (2 if h.shape[1] == 6 else 1)

    model, inputs = trained_(Telling()), (torch.randn(3, 4),)
    network = trace(model, inputs)
    _, reasons = provable(model, groups_of(network), network, inputs)
    assert "another number of tensors" in reasons["a.neurons"]
