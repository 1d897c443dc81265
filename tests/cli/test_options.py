"""What a task of texts is told on the command line arrives as fields of its data."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from secateurs.cli.options import optional_task_options, task_options, text_fields, written
from secateurs.tasks.text_classification import TextData


def _seen(*arguments: str, optional: bool = False) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    @click.command()
    @(optional_task_options if optional else task_options)
    def act(**given: Any) -> None:
        seen["fields"] = text_fields(given)
        seen["rest"] = given

    result = CliRunner().invoke(act, arguments)
    assert result.exit_code == 0, result.stderr
    return seen


def test_a_language_task_by_its_file() -> None:
    words = ("--task", "language_modelling", "--data", "a b.txt", "--length", "64", "--bos", "--selection-file", "c")
    fields = _seen(*words)["fields"]
    assert fields == {"train": "a b.txt", "selection": "c", "length": 64, "bos": True}
    model, *again = shlex.split(written(Path("a place"), "language_modelling", fields))
    assert model == "a place"
    assert _seen(*again)["fields"] == fields


def test_only_what_was_given_is_passed_on() -> None:
    assert _seen("--task", "glue/sst2") == {"fields": {}, "rest": {"task": "glue/sst2"}}
    assert _seen(optional=True)["rest"] == {"task": None}


def test_every_field_has_its_name() -> None:
    arguments = (
        "--task text --train a.csv --evaluation-file b.csv --text x --text y --label z --metric f1 --max-length 9"
    )
    fields = _seen(*arguments.split())["fields"]
    assert fields == {
        "train": "a.csv",
        "evaluation": "b.csv",
        "text": ("x", "y"),
        "label": "z",
        "metric": "f1",
        "max_length": 9,
    }
    assert set(fields) <= {field.name for field in dataclasses.fields(TextData)}
    assert _seen(*written("m", "text", fields).split()[1:])["fields"] == fields


def test_a_task_can_be_required() -> None:
    with pytest.raises(AssertionError, match="--task"):
        _seen()
