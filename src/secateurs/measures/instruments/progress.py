"""Signs of life: a line of log at most once a second."""

from __future__ import annotations

import logging
import time


class Pulse:
    """Logs at INFO, but not more often than once in ``every`` seconds; the first second is silent.

    Args:
        log: Where to.
        every: Seconds between lines.
    """

    def __init__(self, log: logging.Logger, every: float = 1.0) -> None:
        self._log = log
        self._every = every
        self._next = time.monotonic() + every

    def say(self, message: str, *values: object) -> None:
        """Log the message if it is time.

        Args:
            message: With %-places for the values.
            values: What fills them.
        """
        now = time.monotonic()
        if now >= self._next:
            self._log.info(message, *values)
            self._next = now + self._every
