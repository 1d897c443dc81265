"""One process for each thing that may crash, hang, or eat the memory; what it told before that stands."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def in_child(work: Callable[..., None], *arguments: Any, seconds: int, gigabytes: int) -> dict[str, Any]:
    """Run ``work(*arguments, tell)`` in a fork of this process; the fields it told, and ``error`` where it failed.

    Args:
        work: Told things by ``tell(field=value)``.
        arguments: Of the work.
        seconds: Of processor time.
        gigabytes: Of memory, what was mapped before the fork included.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(work, arguments, sender, seconds, gigabytes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child.start()
    sender.close()
    told: dict[str, Any] = {}
    while True:
        try:
            if not receiver.poll(20 * seconds):
                child.kill()
                told["error"] = f"stopped after {20 * seconds} s"
            told |= receiver.recv()
        except EOFError:
            break
    child.join()
    if child.exitcode == -signal.SIGXCPU:
        told["error"] = f"stopped after {seconds} s of processor time"
    elif child.exitcode:
        told.setdefault("error", f"the process ended with {child.exitcode}")
    return told


def _work(
    work: Callable[..., None], arguments: tuple[Any, ...], sender: Connection, seconds: int, gigabytes: int
) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_AS, (gigabytes << 30, gigabytes << 30))
    try:
        work(*arguments, lambda **fields: sender.send(fields))
    except MemoryError:
        sender.send({"error": f"more than {gigabytes} GB of memory"})
    except Exception as error:  # the row says so
        line = (str(error).strip().splitlines() or [""])[0]
        sender.send({"error": f"{type(error).__name__}: {line}"[:300]})
    sender.close()


class Reloader:
    """A process of its own, started anew, that loads what others saved."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, directory: Path) -> float | str:
        """How far the outputs of the loaded network are from those before; in words where it cannot be loaded."""
        if self._process is None or self._process.poll() is not None:
            program = "import logging, warnings; logging.disable(30); warnings.simplefilter('ignore')\n"
            program += f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
            program += "from covering.ours import reload; reload()"
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
            self._process = subprocess.Popen([sys.executable, "-c", program], **pipes)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{directory}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        try:
            return float(answer)
        except ValueError:
            return answer or "the process that loads it ended"

    def close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()
