from __future__ import annotations

import pytest
from torch import nn

from secateurs.graph.numbering import renumbered
from secateurs.types import Argument, Skip


class Attention(nn.Module):
    def __init__(self, number: int, window: int | None) -> None:
        super().__init__()
        self.number, self.window, self.heads = number, window, 4


class Block(nn.Module):
    def __init__(self, number: int, window: int | None = None) -> None:
        super().__init__()
        self.attention, self.ffn = Attention(number, window), nn.Linear(2, 2)


def new_numbers(model: nn.Module, *skipped: str) -> dict[str, int | tuple[int, ...]]:
    skips = [Skip(module, Argument("x", 0)) for module in skipped]
    return {f"{repair.module}.{repair.attribute}": repair.value for repair in renumbered(model, skips)}


@pytest.mark.parametrize("skipped", ["layers.0", "layers.0.attention"])
def test_those_left_close_up(skipped: str) -> None:
    model = nn.ModuleDict({"layers": nn.ModuleList(Block(i) for i in range(3))})
    assert new_numbers(model, skipped) == {"layers.1.attention.number": 0, "layers.2.attention.number": 1}


def test_those_with_other_settings_keep_theirs() -> None:
    model = nn.ModuleList(Block(i, window) for i, window in enumerate([8, 8, None, 8, None]))
    assert new_numbers(model, "0") == {"1.attention.number": 0, "3.attention.number": 1}
    assert new_numbers(model, "2") == {"4.attention.number": 2}


def test_nothing_is_numbered_anew_without_need() -> None:
    model = nn.ModuleList(Block(i) for i in range(3))
    assert new_numbers(model) == new_numbers(model, "2") == new_numbers(model, "0.ffn") == {}
    assert new_numbers(nn.ModuleList(Block(i + 1) for i in range(3)), "0") == {}, "no number of the layer"
