"""A journal survives being cut anywhere, and is nobody else's."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateurs.search.journal import Journal
from secateurs.types import SecateursError

INPUTS = {"epsilon": 0.01, "data": {"rows": (1, 2)}, "recipe": "a\nb"}


def test_lines_come_back_by_kind(tmp_path: Path) -> None:
    with Journal(tmp_path / "new" / "er", INPUTS) as journal:
        assert journal.write("a", {"x": (1, 2)}) == {"x": [1, 2]}
        journal.write("b", 3)
        journal.write("a", None)
    with Journal(tmp_path / "new" / "er", INPUTS) as journal:
        assert journal.of("a") == [{"x": [1, 2]}, None] and journal.of("b") == [3]
        assert journal.of("nothing") == []


@settings(max_examples=60)
@given(cut=st.integers(0, 10_000))
def test_a_line_cut_short_is_dropped_and_the_rest_stays(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    directory = tmp_path_factory.mktemp("journal")
    with Journal(directory, INPUTS) as journal:
        for number in range(3):
            journal.write("a", number)
    content = journal.path.read_bytes()
    cut = cut % (len(content) + 1)
    journal.path.write_bytes(content[:cut])
    whole = max(content[:cut].count(b"\n") - 1, 0)
    with Journal(directory, INPUTS) as journal:
        assert journal.of("a") == list(range(whole))
        journal.write("a", "next")
    lines = journal.path.read_bytes().splitlines()
    assert [json.loads(line)["is"] for line in lines[1:]] == [*range(whole), "next"]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"epsilon": 0.02}, r"another epsilon \(0\.01 there, 0\.02 here\)"),
        ({"recipe": "a\nc"}, "another recipe: give"),
        ({"data": {"rows": [1, 3]}}, "another data"),
    ],
)
def test_a_search_with_other_inputs_is_refused(tmp_path: Path, other: dict[str, Any], says: str) -> None:
    Journal(tmp_path, INPUTS).close()
    before = (tmp_path / "journal.jsonl").read_bytes()
    with pytest.raises(SecateursError, match=says):
        Journal(tmp_path, {**INPUTS, **other})
    assert (tmp_path / "journal.jsonl").read_bytes() == before
    Journal(tmp_path, INPUTS).close()


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(SecateursError, match="not empty and holds no search"):
        Journal(tmp_path, INPUTS)
    with pytest.raises(SecateursError, match=r"cannot be written: .*; give another"):
        Journal(tmp_path / "thesis.txt", INPUTS)


@pytest.mark.parametrize("content", [b"hello\n", b"[]\n", b'{"kind": "a", "is": 1}\n', b'{"kind": "inputs"}\n'])
def test_a_damaged_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.jsonl").write_bytes(content)
    with pytest.raises(SecateursError, match="is damaged"):
        Journal(tmp_path, INPUTS)


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with Journal(tmp_path, INPUTS), pytest.raises(SecateursError, match="another process"):
        Journal(tmp_path, INPUTS)
    Journal(tmp_path, INPUTS).close()


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def half(handle: int, data: bytes) -> int:
        write(handle, bytes(data)[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(tmp_path, INPUTS) as journal:
        journal.write("a", 1)
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(SecateursError, match="is full: free some space and run again"):
            journal.write("a", 2)
    monkeypatch.undo()
    with Journal(tmp_path, INPUTS) as journal:
        assert journal.of("a") == [1]
