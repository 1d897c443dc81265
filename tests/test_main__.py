"""``python -m secateurs`` is the command line, and its help costs next to nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import secateurs

HEAVY = ("torch", "numpy", "scipy", "transformers", "datasets", "pandas", "rich", "sklearn", "codecarbon")


def test_version() -> None:
    done = subprocess.run([sys.executable, "-m", "secateurs", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"secateurs {secateurs.__version__}\n"


@pytest.mark.parametrize("command", ["", "demo", "finetune", "prune", "inspect", "measure", "compare"])
def test_help_loads_nothing_heavy(command: str) -> None:
    code = (
        "import sys\nfrom secateurs.cli import main\n"
        f"try:\n    main({[*command.split(), '--help']!r}, prog_name='secateurs')\n"
        f"finally:\n    print('LOADED', *sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: secateurs")
    assert done.stdout.splitlines()[-1] == "LOADED"
