"""What differs in an index only is told once; what differs in anything else is not."""

from __future__ import annotations

import pytest

from report.conftest import Cost
from secateurs.report.folding import folded, pattern, span
from secateurs.types import Dim


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a.0.b", "a.1.b", "a.3.b"), "a.{0-1,3}.b"),
        (("a.b",), "a.b"),
        (("a.0.b.2.c", "a.1.b.2.c"), "a.{0-1}.b.2.c"),
        (("a.10.b", "a.9.b"), "a.{9-10}.b"),
    ],
)
def test_names_are_spanned(names: tuple[str, ...], said: str) -> None:
    assert span(names) == said


def test_the_pattern_leaves_axes_and_names_alone() -> None:
    assert pattern("a.12.b.3.conv1.weight[0]") == "a.#.b.#.conv1.weight[0]"


def test_dims_alike_are_folded_and_others_are_not() -> None:
    def cost(layer: int, size: int = 4, why: str | None = None, role: str = "neurons") -> Cost:
        return Cost(Dim(f"a.{layer}.b", size, role, (f"a.{layer}.b.weight[0]",), why))

    found = folded([cost(0), cost(1), cost(2, size=5), cost(3, why="an output"), cost(4, role="heads"), cost(5)])
    assert [it.label for it in found] == ["a.{0-1,5}.b", "a.2.b", "a.3.b", "a.4.b"]
