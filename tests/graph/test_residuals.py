"""Which modules are skipped, what stands in for them, and where nothing is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graph.rules.tracing import Layer, see
from secateurs.types import Argument, Residual


def found(function: Callable[..., Any], **layers: Layer) -> dict[str, list[Residual]]:
    out: dict[str, list[Residual]] = {}
    for residual in see(function, torch.randn(2, 5, 4), **layers).graph.residuals:
        out.setdefault(residual.of, []).append(residual)
    return out


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))


class Block(nn.Module):
    """Adds to what it is given; ``after`` what was added comes a norm, ``also`` another result."""

    def __init__(self, after: bool = False, also: bool = False) -> None:
        super().__init__()
        self.norm, self.f, self.after, self.also = nn.LayerNorm(4), mlp(), after, also

    def forward(self, x: Tensor) -> Any:
        x = self.norm(x + self.f(x)) if self.after else x + self.f(self.norm(x))
        return (x, x.mean()) if self.also else x


def run(self: nn.Module, x: Tensor) -> Tensor:
    for block in self.blocks:  # type: ignore[union-attr]
        x = block(x)
    return x * 2


def blocks(**settings: bool) -> nn.ModuleList:
    return nn.ModuleList(Block(**settings) for _ in range(2))


def test_a_branch_is_the_modules_that_serve_it_alone() -> None:
    [branch] = found(lambda self, x: x + self.f(self.norm(x)), norm=nn.LayerNorm(4), f=mlp())["branch"]
    assert {skip.module: skip.returns for skip in branch.skips} == {
        "norm": Argument("input", 0),
        "f": Argument("input", 0, zero=True),
    }
    assert branch.name == "f"
    assert set(branch.tensors) == {f"{m}.{kind}" for m in ("norm", "f.0", "f.2") for kind in ("weight", "bias")}


def test_no_branch() -> None:
    assert not found(lambda self, x: self.f(x), f=mlp())
    assert not found(lambda self, x: x + self.f(x) + self.f(x * 2), f=mlp()), "a module that is run twice"
    assert not found(lambda self, x: (y := self.f(x)) * (x + y), f=mlp()), "what is added is read elsewhere too"
    assert not found(lambda self, x: x + x @ self.w, w=nn.Parameter(torch.randn(4, 4))), "no module computes it"
    assert not found(lambda self, x: x + self.f[0](x) + self.f[0].weight.sum(), f=nn.ModuleList([nn.Linear(4, 4)]))


def test_a_block_goes_whole_or_its_branches_do() -> None:
    whole, hollow = found(run, blocks=blocks())["block"], found(run, blocks=blocks(after=True))["block"]
    assert [skip for block in whole for skip in block.skips] == [
        type(whole[0].skips[0])(f"blocks.{i}", Argument("x", 0)) for i in range(2)
    ]
    assert [[skip.module for skip in block.skips] for block in hollow] == [["blocks.0.f"], ["blocks.1.f"]]
    assert {block.chain for block in (*whole, *hollow)} == {"blocks.*"}


def test_what_a_block_also_computes_may_be_read_by_nobody() -> None:
    def first(self: nn.Module, x: Tensor) -> Tensor:
        for block in self.blocks:  # type: ignore[union-attr]
            x = block(x)[0]
        return x * 2

    def both(self: nn.Module, x: Tensor) -> Tensor:
        more = torch.zeros(())
        for block in self.blocks:  # type: ignore[union-attr]
            x, mean = block(x)
            more = more + mean
        return x * more

    assert [b.skips[0].returns for b in found(first, blocks=blocks(also=True))["block"]] == [
        (Argument("x", 0), None),
        (Argument("x", 0), None),
    ]
    assert [b.skips[0].module for b in found(both, blocks=blocks(also=True))["block"]] == [
        "blocks.0.norm",
        "blocks.1.norm",
    ]


def test_streams_apart_are_chains_apart() -> None:
    def two(self: nn.Module, x: Tensor) -> Tensor:
        return run(self.left, x).mean() + run(self.right, x[:, :2]).mean()  # type: ignore[arg-type]

    holders = {side: nn.ModuleDict({"blocks": blocks()}) for side in ("left", "right")}
    assert {b.chain for b in found(two, **holders)["block"]} == {"left.blocks.*", "right.blocks.*"}
