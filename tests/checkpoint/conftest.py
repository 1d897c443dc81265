"""Small networks saved as transformers saves them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from chained import CASES

Saved = Callable[[str], tuple[nn.Module, Path]]


@pytest.fixture
def saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Saved:
    """A network by name, in evaluation mode, and its directory: several shards, so that none holds all."""

    def save(name: str) -> tuple[nn.Module, Path]:
        model = CASES[name][0]()
        directory = tmp_path / name
        with caplog.at_level(logging.ERROR):
            model.save_pretrained(directory, max_shard_size="20KB")
        assert len(list(directory.glob("*.safetensors"))) > 1
        return model, directory

    return save
