"""What every test shares: no network, few threads, a fixed seed, and the data sets where they are given."""

from __future__ import annotations

import os

# Before torch and the Hugging Face libraries read them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

# A machine under load is slow, not wrong; and a failure must come back when the test is run again.
hypothesis.settings.register_profile("secateurs", deadline=None, derandomize=True, max_examples=25, print_blob=True)
hypothesis.settings.load_profile("secateurs")


def pytest_configure() -> None:
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    torch.set_num_threads(max(1, min(2, (os.cpu_count() or 1) // workers)))


def pytest_make_collect_report() -> None:
    """What a module draws as it is imported, for all of its tests, is the same whichever others are collected."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of data sets named by SECATEURS_DATA; a test that asks for it skips without."""
    where = os.environ.get("SECATEURS_DATA")
    if not where:
        pytest.skip("SECATEURS_DATA is not set")
    path = Path(where)
    if not path.is_dir():
        pytest.skip(f"SECATEURS_DATA names no directory: {path}")
    return path
