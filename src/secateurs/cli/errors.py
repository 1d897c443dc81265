"""What a user sees when something cannot be done: one line on stderr and an exit code, never a traceback.

Exit codes: 0 done, 2 the input cannot be used (or a disk is full), 130 interrupted, 1 a fault of the program itself.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

DEBUG = "SECATEURS_DEBUG"
"""Environment variable: with it set, every traceback is shown."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Guarded(click.Group):
    """A group of commands whose errors come out as one line each."""

    def main(  # type: ignore[override]  # click's overloads say the same in two signatures
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        """Run a command and leave the process with its exit code.

        Args:
            args: Of the command line; None: ``sys.argv``.
            prog_name: For the help texts.
            **extra: As click's own.
        """
        standalone = extra.pop("standalone_mode", True)
        try:
            result = super().main(args, prog_name, standalone_mode=False, **extra)
        except Exception as error:
            if not standalone:
                raise
            line, code = explain(error)
            click.echo(line, err=True)
            if os.environ.get(DEBUG):
                traceback.print_exception(error)
            sys.exit(code)
        if standalone:
            sys.exit(result if isinstance(result, int) else 0)
        return result


def explain(error: BaseException) -> tuple[str, int]:
    """The line and the exit code of an error.

    Args:
        error: Whatever a command raised.
    """
    if isinstance(error, click.exceptions.Abort | KeyboardInterrupt):
        return "interrupted; run the same command again to continue", 130
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.format_message(), 2
    if isinstance(error, click.ClickException):
        return f"error: {_one_line(error.format_message())}{_help_of(error)}", 2
    if _is_ours(error):
        return f"error: {_one_line(str(error))}", 2
    if isinstance(error, OSError) or _is_full_disk(error):
        return f"error: {_one_line(_said(error))}", 2
    hint = "" if os.environ.get(DEBUG) else f" (set {DEBUG}=1 for the traceback)"
    return f"error: this is a fault of secateurs: {type(error).__name__}: {_one_line(str(error))}{hint}", 1


def _is_ours(error: BaseException) -> bool:
    # By name only if something else has imported it: asking for --help must not load the vocabulary.
    types = sys.modules.get("secateurs.types")
    return types is not None and isinstance(error, types.SecateursError)


def _said(error: BaseException) -> str:
    where = getattr(error, "filename", None)
    if _is_full_disk(error):
        return f"no space left on the disk{f' for {where}' if where else ''}; free some and run again"
    why = getattr(error, "strerror", None)
    return f"{why}{f': {where}' if where else ''}" if why else str(error) or type(error).__name__


def _is_full_disk(error: BaseException | None) -> bool:
    """Whether this or what caused it is a full disk; libraries in other languages only say so in words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if "No space left on device" in str(error) or "os error 28" in str(error):
            return True
        error = error.__cause__
    return False


def _help_of(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f" (see {context.command_path} --help)" if isinstance(error, click.UsageError) and context else ""


def _one_line(message: str) -> str:
    return " ".join(message.split())
