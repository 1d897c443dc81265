"""A file is written whole or not at all, and never over another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from secateurs.report.files import free, write
from secateurs.types import SecateursError


def test_a_file_that_exists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").symlink_to("nowhere")
    for name in ("a", "b"):
        with pytest.raises(SecateursError, match="exists: give a file that does not"):
            free(tmp_path / name)
    with pytest.raises(SecateursError, match="there is no directory"):
        free(tmp_path / "c" / "d")
    assert free(tmp_path / "e") == tmp_path / "e"


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    write(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "text"
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(SecateursError, match="the disk is full"):
        write(tmp_path / "b", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
