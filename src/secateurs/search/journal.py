"""A search on the disk: every configuration as a line of ``journal.jsonl``, the networks that hold beside it.

A line is written once, after everything it speaks of is on the disk. A search that was killed at any moment is
therefore a journal whose last line may be cut short; that line is dropped, and what it would have said is done again.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from secateurs.archive import plain, sync
from secateurs.types import SecateursError

JOURNAL = "journal.jsonl"


class Journal:
    """The lines of one search, held open by one process.

    Args:
        directory: Made where it is not there; else it must hold a search with the same inputs, or nothing.
        inputs: What the search depends on; a journal of other inputs is refused.

    Raises:
        SecateursError: The directory holds something else, a search with other inputs (the first that differs is
            named), a damaged journal, or another process is searching in it.
    """

    def __init__(self, directory: Path, inputs: Mapping[str, Any]) -> None:
        self.path = directory / JOURNAL
        self._lines: list[dict[str, Any]] = []
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if not self.path.exists() and any(directory.iterdir()):
                raise SecateursError(f"{directory} is not empty and holds no search: give another directory")
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            why = error.strerror or error
            raise SecateursError(f"{directory} cannot be written: {why}; give another directory") from error
        try:
            self._lock()
            self._read()
            self._check(json.loads(json.dumps(plain(inputs))))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let the next process have it."""
        os.close(self._handle)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """What was written under this kind, in order."""
        return [line["is"] for line in self._lines if line["kind"] == kind]

    def write(self, kind: str, value: Any) -> Any:
        """Append one line and see it on the disk.

        Returns:
            The value as it will be read back.

        Raises:
            SecateursError: The disk is full or gone; what was written before stays good.
        """
        line = {"kind": kind, "is": plain(value)}
        try:
            text = (json.dumps(line, allow_nan=False) + "\n").encode()
            rest = memoryview(text)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
            os.fsync(self._handle)
        except OSError as error:
            raise unwritten(self.path, error) from error
        self._lines.append(json.loads(text))
        return self._lines[-1]["is"]

    def _lock(self) -> None:
        """Two searches in one directory would mix their lines; the lock goes with the process, however it ends."""
        try:
            import fcntl
        except ImportError:  # not on Windows
            return
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SecateursError(
                f"another process is searching in {self.path.parent}: wait for it, or give another directory"
            ) from error

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.ftruncate(self._handle, len(whole))
        try:
            lines: list[Any] = [json.loads(line) for line in whole.splitlines()]
            good = all(isinstance(line, dict) and {"kind", "is"} <= line.keys() for line in lines)
        except ValueError:
            lines, good = [], False
        self._lines = lines
        if not good or (self._lines and self._lines[0]["kind"] != "inputs"):
            raise SecateursError(f"{self.path} is damaged: give another directory and search again")

    def _check(self, inputs: dict[str, Any]) -> None:
        if not self._lines:
            self.write("inputs", inputs)
            sync(self.path.parent)
            return
        there = self._lines[0]["is"]
        for name in (*inputs, *there):
            if inputs.get(name) != there.get(name):
                raise SecateursError(
                    f"{self.path.parent} holds a search with another {name}{_both(there.get(name), inputs.get(name))}: "
                    "give another directory, or the same inputs to continue that one"
                )


def _both(there: Any, here: Any) -> str:
    """The two values, where they are short enough to help."""
    shown = f" ({there} there, {here} here)"
    return shown if len(shown) <= 60 and "\n" not in shown else ""


def unwritten(path: Path, error: OSError) -> SecateursError:
    """What to say when a file of the search could not be written."""
    if error.errno == errno.ENOSPC:
        return SecateursError(f"the disk of {path.parent} is full: free some space and run again to continue from here")
    return SecateursError(f"{path} could not be written: {error}")
