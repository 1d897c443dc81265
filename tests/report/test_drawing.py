"""Drawings are refused before any work is done, and each is what its option says."""

from __future__ import annotations

from pathlib import Path

import pytest

from report.conftest import Inspected
from secateurs.report.drawing import wanted, write
from secateurs.types import SecateursError


def test_each_form_is_drawn(tmp_path: Path, inspected: Inspected) -> None:
    files = wanted(str(tmp_path / "a"), str(tmp_path / "b"))
    assert [write(it, "net", "", inspected).read_text(encoding="utf-8").split()[0] for it in files] == [
        "graph",
        "<!doctype",
    ]
    assert wanted(None, None) == ()
    with pytest.raises(SecateursError, match="exists"):
        wanted(None, str(tmp_path / "b"))
