"""A manifest is strict JSON, whatever it is given."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from secateurs.deploy.manifest import digest, plain, versions
from secateurs.types import Reading


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (-math.inf, None),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (torch.tensor(2.0), 2.0),
        (Path("a/b"), "a/b"),
        ({1: (1, 2)}, {"1": [1, 2]}),
        ({"b", "a"}, ["a", "b"]),
        (torch.float32, "torch.float32"),
        (True, True),
    ],
)
def test_plain(value: object, expected: object) -> None:
    got = plain(value)
    assert got == expected and type(got) is type(expected)
    json.dumps(got, allow_nan=False)


def test_readings_keep_their_fields() -> None:
    reading = Reading("latency", 0.5, "s", "measured", spread=(0.4, math.inf), samples=3)
    assert plain({"a": [reading]})["a"][0] == {
        "measure": "latency", "value": 0.5, "unit": "s", "how": "measured", "spread": [0.4, None],
        "source": None, "samples": 3, "note": None,
    }  # fmt: skip


def test_digest_and_versions(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert digest(tmp_path / "f") == {"sha256": hashlib.sha256(b"abc").hexdigest(), "bytes": 3}
    assert versions()["torch"] == str(torch.__version__)
