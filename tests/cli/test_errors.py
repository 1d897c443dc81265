"""Each kind of error: one line, the right exit code, and a traceback only where it was asked for."""

from __future__ import annotations

import errno

import click
import pytest
from click.testing import CliRunner, Result

from secateurs.cli.errors import DEBUG, Guarded
from secateurs.types import SecateursError


def _run(raised: BaseException, *arguments: str) -> Result:
    @click.group(cls=Guarded)
    def cli() -> None:
        pass

    @cli.command()
    @click.option("--number", type=int)
    def act(number: int | None) -> None:
        raise raised

    return CliRunner().invoke(cli, ["act", *arguments], prog_name="secateurs")


def _caused() -> RuntimeError:
    error = RuntimeError("while saving")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    return error


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (SecateursError("epsilon is 2;\n give one in [0, 1)"), 2, "error: epsilon is 2; give one in [0, 1)"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "error: Permission denied: x"),
        (OSError(errno.ENOSPC, "No space", "y"), 2, "error: no space left on the disk for y; free some and run again"),
        (_caused(), 2, "error: no space left on the disk; free some and run again"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 2, "error: no space left on the disk;"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to continue"),
        (ZeroDivisionError("oh"), 1, f"error: this is a fault of secateurs: ZeroDivisionError: oh (set {DEBUG}=1"),
    ],
)
def test_an_error_is_one_line(raised: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEBUG, raising=False)
    result = _run(raised)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.strip().startswith(line)
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_usage_error_is_one_line_that_names_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEBUG, raising=False)
    result = _run(RuntimeError(), "--number", "x")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert "--number" in result.stderr
    assert "secateurs act --help" in result.stderr


def test_the_traceback_is_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEBUG, "1")
    assert "Traceback" in _run(ZeroDivisionError("oh")).stderr


def test_without_standalone_mode_the_error_is_the_callers() -> None:
    @click.group(cls=Guarded)
    def cli() -> None:
        raise SecateursError("no")

    @cli.command()
    def act() -> None: ...

    with pytest.raises(SecateursError):
        cli.main(["act"], standalone_mode=False)
