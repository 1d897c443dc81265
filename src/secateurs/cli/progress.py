"""What long work is doing, on stderr: a live line with the time gone by, or plain lines where nobody watches."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import MappingProxyType
from typing import TYPE_CHECKING, TextIO

from secateurs.report.numbers import seconds

if TYPE_CHECKING:
    from rich.status import Status

QUIET = MappingProxyType(
    {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "DATASETS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
        "PYTHONWARNINGS": "ignore",
        # Threads that wait for work in a loop take the processor from whoever has work.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
)
"""What other libraries read, as they are imported, to hold their tongues and to be good neighbours."""


class Lines(logging.Handler):
    """Plain lines, for files and pipes: notices at once, progress once in a while.

    Args:
        stream: Where they go.
        every: Least number of seconds before a line of progress, and between two.
    """

    def __init__(self, stream: TextIO, every: float = 3.0) -> None:
        super().__init__(logging.INFO)
        self.stream, self.every = stream, every
        self._begun = self._last = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if record.levelno < logging.WARNING:
            if now - self._last < self.every:
                return
            self._last = now
        print(f"[{seconds(now - self._begun)}] {record.getMessage()}", file=self.stream, flush=True)


class Live(logging.Handler):
    """One line that changes in place on a terminal, with a clock that goes on by itself; notices stay above it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.INFO)
        from rich.console import Console

        self._console = Console(file=stream, highlight=False)
        self._begun = time.monotonic()
        self._said = "starting"
        self._status: Status = self._console.status(self)

    def __rich__(self) -> str:
        from rich.markup import escape

        return f"[dim]{seconds(time.monotonic() - self._begun)}[/dim] {escape(self._said)}"

    def start(self) -> None:
        """Show the line."""
        self._status.start()

    def stop(self) -> None:
        """Take the line away."""
        self._status.stop()

    def emit(self, record: logging.LogRecord) -> None:
        self._said = " ".join(record.getMessage().split())
        if record.levelno >= logging.WARNING:
            self._console.print(self._said, markup=False)


@contextmanager
def shown(stream: TextIO | None = None) -> Iterator[None]:
    """Show what ``secateurs.*`` logs while the body runs, and keep everything else off the terminal.

    Whatever the body prints, a user's own function included, goes to stderr: stdout is for the report alone.

    Args:
        stream: Where progress goes; None: stderr.
    """
    stream = stream or sys.stderr
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    logger = logging.getLogger("secateurs")
    before = logger.level, logger.propagate
    handler = Live(stream) if stream.isatty() else Lines(stream)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        if isinstance(handler, Live):
            handler.start()
        with warnings.catch_warnings(), redirect_stdout(stream):
            warnings.simplefilter("ignore")
            yield
    finally:
        if isinstance(handler, Live):
            handler.stop()
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
