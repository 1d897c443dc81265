"""A manifest says what an artifact was made with, and finds damage."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from secateurs.deploy.manifest import digest, versions


def test_digest_and_versions(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert digest(tmp_path / "f") == {"sha256": hashlib.sha256(b"abc").hexdigest(), "bytes": 3}
    assert versions()["torch"] == str(torch.__version__)
