from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from secateurs.graph import trace
from secateurs.recipe import part, part_names
from secateurs.structures.channel import Channel
from secateurs.testing import check_measure, check_recovery, check_structure
from secateurs.types import Group, Inputs, Network, Reading, SecateursError, Task


class Images(nn.Module):
    """A stem, a residual block, a grouped convolution, a hidden layer, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.outer = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.grouped, self.hidden, self.head = nn.Conv2d(8, 12, 1, groups=2), nn.Linear(12, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.outer(self.inner(x).relu())
        y: Tensor = self.head(self.hidden(self.grouped(x).relu().mean((2, 3))).relu())
        return y


class Words(nn.Module):
    """Attention with two queries to each key-value head, and a feed-forward layer."""

    def __init__(self) -> None:
        super().__init__()
        self.per_group = 2
        self.table, self.norm = nn.Embedding(9, 24), nn.LayerNorm(24)
        self.q, self.k, self.v, self.o = nn.Linear(24, 24), nn.Linear(24, 12), nn.Linear(24, 12), nn.Linear(24, 24)
        self.up, self.down = nn.Linear(24, 32), nn.Linear(32, 24)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        b, t, _ = x.shape
        h = self.norm(x)
        q = self.q(h).reshape(b, t, -1, 4).transpose(1, 2)
        k, v = (
            p(h).reshape(b, t, -1, 1, 4).expand(-1, -1, -1, self.per_group, -1).reshape(b, t, -1, 4).transpose(1, 2)
            for p in (self.k, self.v)
        )
        x = x + self.o(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        y: Tensor = x + self.down(self.up(x).relu())
        return y


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.down(self.up(self.norm(x)).relu())
        return y


class Mixture(nn.Module):
    """A router picks two experts of six for each row."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.head = nn.Linear(4, 6), nn.Linear(4, 3)
        self.up = nn.Parameter(torch.randn(6, 4, 5))
        self.down = nn.Parameter(torch.randn(6, 5, 4))

    def forward(self, x: Tensor) -> Tensor:
        weights, picks = self.router(x).softmax(-1).topk(2)
        y = torch.einsum("nd,nkdf->nkf", x, self.up[picks]).relu()
        z = torch.einsum("nkf,nkfd->nkd", y, self.down[picks])
        out: Tensor = self.head((weights[..., None] * z).sum(1))
        return out


def networks() -> list[tuple[nn.Module, Inputs]]:
    torch.manual_seed(0)
    model = Images().train()
    for _ in range(3):
        model(torch.randn(8, 4, 6, 6))
    deep = nn.Sequential(nn.Linear(4, 8), *(Residual() for _ in range(3)), nn.Linear(8, 4))
    return [
        (model, (torch.randn(2, 4, 6, 6),)),
        (Words(), (torch.randint(0, 9, (2, 5)),)),
        (deep, (torch.randn(2, 4),)),
        (Mixture(), (torch.randn(3, 4),)),
    ]


SPECS = [
    *(name for name in part_names("structure") if name not in {"block", "vocabulary"}),
    {"block": {"rows": 2, "columns": 2}},
    {"vocabulary": {"smallest": 9, "keep_tokens": [0]}},
    {"head": {"of": "query"}},
    {"weight": {"per": "row"}},
    {"n_m": {"n": 1, "m": 4}},
    {"pattern": {"per": "layer"}},
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_structure(spec: Any) -> None:
    structure, checked = part("structure", spec), 0
    for model, inputs in networks():
        if structure(trace(model, inputs)):
            check_structure(structure, model, inputs)
            checked += 1
    assert checked, "give this test a network in which the structure finds something"


@pytest.mark.parametrize("name", part_names("recovery"))
def test_every_recovery(name: str) -> None:
    if name == "lora":
        pytest.importorskip("peft", reason="lora tunes through peft")
    check_recovery(part("recovery", name))


QUICK: Mapping[str, Mapping[str, Any]] = {"latency": {"max_seconds": 0.2}, "energy": {"seconds": 0.2}}


@pytest.mark.parametrize("name", part_names("measure"))
def test_every_measure(name: str) -> None:
    measure = part("measure", {name: QUICK.get(name)})
    try:
        check_measure(measure)
    except SecateursError as error:
        assert name == "energy"  # the only one that may find no instrument on a machine
        pytest.skip(str(error))


# ---------------------------------------------------------------------------------------- what must be caught


@dataclass(frozen=True)
class Channels:
    fault: str = ""

    calls: ClassVar[Iterator[int]] = itertools.count()

    def __call__(self, network: Network) -> tuple[Group, ...]:
        groups = Channel()(network)
        first = groups[0]
        members = first.members
        changed: dict[str, tuple[Group, ...]] = {
            "nothing": (),
            "twice": (first, first),
            "blocks": (replace(first, block=first.n_units + 1),),
            "blind": (replace(first, members=tuple(replace(m, scored=False) for m in members)),),
            "units": (replace(first, n_units=2 * first.n_units, block=2 * first.n_units),),
            "half": (replace(first, members=members[:1]),),
            "chance": groups[: 1 + next(self.calls) % 2],
        }
        return changed.get(self.fault, groups)


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("nothing", "finds nothing in this network"),
        ("twice", "gives two groups one name"),
        ("blocks", "units in blocks of"),
        ("blind", "nothing of .* can be scored"),
        ("units", "rows, .* other units"),
        ("chance", "finds other groups again"),
    ],
)
def test_a_structure_with_a_fault_is_caught(fault: str, line: str) -> None:
    model, inputs = networks()[0]
    with pytest.raises(AssertionError, match=line):
        check_structure(Channels(fault), model, inputs)


def test_a_structure_of_ones_own_passes() -> None:
    check_structure(Channels(), *networks()[0])


def test_a_structure_that_forgets_a_member_is_caught() -> None:
    model, inputs = networks()[0]
    with pytest.raises(SecateursError, match="the shrunk network"):
        check_structure(Channels("half"), model, inputs)


@dataclass(frozen=True)
class Heal:
    fault: str = ""

    calls: ClassVar[Iterator[int]] = itertools.count()

    def __call__(
        self, model: nn.Module, masks: Mapping[str, Tensor], task: Task, dense: nn.Module | None = None
    ) -> None:
        name, mask = next(iter(masks.items()))
        weight = model.get_parameter(name)
        with torch.no_grad():
            if self.fault == "back":
                weight.add_(1)
            if self.fault == "masks":
                mask.logical_not_()
                weight.mul_(0)
            if self.fault == "nan":
                weight.masked_fill_(mask, torch.nan)
            if self.fault == "chance":
                weight.mul_(1 + next(self.calls))
            if self.fault == "shape":
                bias = model.get_submodule("8").get_parameter("bias")
                bias.data = bias.data[1:]
        if self.fault == "mode":
            model.eval()


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("back", "gives dropped weights of 0.weight back"),
        ("masks", "changes the masks"),
        ("nan", "not finite"),
        ("chance", "heals differently with the same seed"),
        ("shape", "changes shapes"),
        ("mode", "leaves the model in another mode"),
    ],
)
def test_a_recovery_with_a_fault_is_caught(fault: str, line: str) -> None:
    check_recovery(Heal())
    with pytest.raises(AssertionError, match=line):
        check_recovery(Heal(fault))


@dataclass(frozen=True)
class Count:
    fault: str = ""

    higher_is_better: ClassVar[bool] = False

    def __call__(self, model: nn.Module, task: Task) -> Any:
        n = float(sum(p.numel() for p in model.parameters()))
        if self.fault == "changes":
            next(model.parameters()).data.add_(1)
        if self.fault == "mode":
            model.eval()
        good = Reading("count", n, "parameters", "counted")
        faults = {
            "number": n,
            "nan": replace(good, value=float("nan")),
            "unit": replace(good, unit=""),
            "how": replace(good, how="guessed"),  # type: ignore[arg-type]
            "spread": replace(good, spread=(0.0, 1.0)),
            "chance": replace(good, value=torch.rand(()).item()),
            "grows": replace(good, value=-n),
        }
        return faults.get(self.fault, good)


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("number", "gives float, not a Reading"),
        ("nan", "reads nan"),
        ("unit", "does not say unit and how"),
        ("how", "does not say unit and how"),
        ("spread", "outside its own interval"),
        ("changes", "changes the model"),
        ("mode", "changes the model"),
        ("chance", "counts another number"),
        ("grows", "in the smaller network"),
    ],
)
def test_a_measure_with_a_fault_is_caught(fault: str, line: str) -> None:
    check_measure(Count())
    with pytest.raises(AssertionError, match=line):
        check_measure(Count(fault))
