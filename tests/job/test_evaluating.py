"""A name that is no language model is refused before the harness is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from secateurs.job.evaluating import evaluate_named
from secateurs.tasks.zero_shot import ZeroShot
from secateurs.types import SecateursError


def test_a_directory_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "lambada.jsonl").write_text('{"text": "a b"}\n')
    with pytest.raises(SecateursError, match="is no model"):
        evaluate_named(str(tmp_path), ZeroShot(("lambada",), tmp_path))
