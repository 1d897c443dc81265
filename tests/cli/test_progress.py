"""Progress reaches stderr, little of it where nobody watches; stdout stays the report's."""

from __future__ import annotations

import io
import logging
import os
import warnings

import pytest

from secateurs.cli.progress import QUIET, Lines, shown

LOG = logging.getLogger("secateurs.test")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, os.environ.get(name, value))


def test_plain_lines_are_few_but_notices_always_come() -> None:
    stream = io.StringIO()
    with shown(stream):
        for i in range(100):
            LOG.info("round %d", i)
        LOG.warning("continuing")
        LOG.debug("detail")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1, "what is over in a moment shows no progress"
    assert lines[0].endswith("continuing")


def test_lines_come_once_in_a_while() -> None:
    stream = io.StringIO()
    handler = Lines(stream, every=0.0)
    for i in range(3):
        handler.emit(logging.LogRecord("secateurs", logging.INFO, "", 0, "round %d", (i,), None))
    assert len(stream.getvalue().splitlines()) == 3


def test_a_terminal_gets_a_live_line_with_the_time() -> None:
    stream = _Terminal()
    with shown(stream):
        LOG.info("round [7]")
        LOG.warning("a notice that stays")
    assert "a notice that stays" in stream.getvalue()
    assert " s" in stream.getvalue()


def test_what_the_body_prints_or_warns_stays_off_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    with shown(stream):
        print("a user's own print")
        warnings.warn("some library's", UserWarning, stacklevel=1)
    assert capsys.readouterr().out == ""
    assert stream.getvalue() == "a user's own print\n"


def test_logging_is_as_before_afterwards() -> None:
    logger = logging.getLogger("secateurs")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with pytest.raises(ValueError, match="x"), shown(io.StringIO()):
        raise ValueError("x")
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
