"""Every reason that the graph gives is explained."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import secateurs.graph
from secateurs.report.reasons import explained

GRAPH = Path(secateurs.graph.__file__).parent


def _text(node: ast.expr) -> str:
    """A string as it is written, operators' names filled in; empty for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "aten.mm" for part in node.values)
    return ""


def _reasons() -> Iterator[str]:
    """What is written down as a reason: the last argument of these calls, and constants called so."""
    for path in sorted(GRAPH.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in {"freeze", "unify", "Node", "give_unknown", "_sum_over"}:
                    yield _text(node.args[-1])
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in {"reason", "INDEXED"}:
                yield _text(node.value)


def test_the_reasons_are_found() -> None:
    found = set(_reasons())
    assert {
        "a kernel position",
        "integers index it",
        "aten.mm cuts across it",
        "its positions are picked by data",
    } <= found


@pytest.mark.parametrize("reason", sorted({reason for reason in _reasons() if reason and "aten.mm (" not in reason}))
def test_every_reason_is_explained(reason: str) -> None:
    if reason in {"picked by rank", "frequencies"}:  # of tensors that no parameter carries
        return
    assert explained(reason).startswith(f"{reason}: ")


def test_the_statistic_says_its_operator() -> None:
    assert explained("a statistic is taken over it (aten.mean)").startswith(
        "a statistic is taken over it (aten.mean): "
    )


def test_a_reason_of_ones_own_stands_as_it_is() -> None:
    assert explained("I want to keep it") == "I want to keep it"
