"""Measure saved networks in a new process, which knows nothing but the files: ``python -m secateurs.job.again``.

One JSON object goes in by stdin, one comes out by stdout, progress by stderr. What comes out is what a user would get
who loaded the artifact the next day.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from secateurs.archive import plain
from secateurs.job.measuring import Settings, compare
from secateurs.job.opening import TaskName, open_model, open_task
from secateurs.job.witness import difference
from secateurs.report import document
from secateurs.report.comparison import Comparison
from secateurs.types import SecateursError

logger = logging.getLogger("secateurs.job")


@dataclass(frozen=True)
class Request:
    """What to measure; plain data.

    Args:
        dense: Artifact of the network as given.
        pruned: Artifact of the pruned one.
        witness: What the pruned one answered before it was saved.
        task: Opened anew.
        settings: Of the clocks.
        trusted: Functions that may be run to build the networks.
    """

    dense: str
    pruned: str
    witness: str
    task: TaskName
    settings: Settings
    trusted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What was found.

    Args:
        comparison: Of the two networks.
        difference: Largest absolute difference of the reloaded network's outputs from those before it was saved.
    """

    comparison: Comparison
    difference: float


def measure(request: Request) -> Answer:
    """Load and measure in this process.

    Args:
        request: What.

    Raises:
        SecateursError: An artifact cannot be loaded, or the task not be opened.
    """
    dense = open_model(request.dense, trusted=request.trusted)
    pruned = open_model(request.pruned, trusted=request.trusted)
    apart = difference(Path(request.witness), pruned.model)
    task = open_task(request.task, dense)
    return Answer(compare(dense.model, pruned.model, task, request.settings), apart)


def measure_elsewhere(request: Request) -> Answer:
    """Load and measure in a new process.

    Args:
        request: What.

    Raises:
        SecateursError: What the other process says.
        RuntimeError: It broke down.
    """
    command = [sys.executable, "-m", "secateurs.job.again"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        try:
            json.dump(plain(asdict(request)), process.stdin)
            process.stdin.close()
            said = [_passed_on(line) for line in process.stderr]
            answered = process.stdout.read()
        except BaseException:
            process.kill()
            raise
    if process.returncode == 2 and said:
        raise SecateursError(said[-1].removeprefix("error: "))
    if process.returncode:
        raise RuntimeError(f"measuring in a new process failed: {said[-1] if said else process.returncode}")
    found = json.loads(answered)
    return Answer(document.read_comparison(found["comparison"]), found["difference"])


def _passed_on(line: str) -> str:
    line = line.strip()
    if line and not line.startswith("error: "):
        logger.info("%s", line)
    return line


def _read(packed: dict[str, Any]) -> Request:
    task, settings = TaskName(**packed.pop("task")), Settings(**packed.pop("settings"))
    trusted = tuple(packed.pop("trusted"))
    return Request(**packed, task=task, settings=settings, trusted=trusted)


def main() -> int:
    """Answer one request; the exit code is that of the command line."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("secateurs").setLevel(logging.INFO)
    out = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            answer = measure(_read(json.load(sys.stdin)))
    except SecateursError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    packed = {"comparison": document.comparison(answer.comparison), "difference": answer.difference}
    out.write(document.text(packed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
