"""JSON is one object and nothing else; a table fits."""

from __future__ import annotations

import json

import pytest

from secateurs.cli.output import WIDEST, show
from secateurs.report import table


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    show({"value": float("nan"), "list": (1, 2)}, True, "not shown")
    assert json.loads(capsys.readouterr().out) == {"value": None, "list": [1, 2]}


def test_lines_and_tables_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    show({}, False, table.rows({"name": False}, [["x [bold] y " * 30]]), "a [line] as it is " * 10)
    out = capsys.readouterr().out
    *lines, last = out.rstrip("\n").splitlines()
    assert last == ("a [line] as it is " * 10)
    assert "[bold]" in out
    assert max(map(len, lines)) <= WIDEST
