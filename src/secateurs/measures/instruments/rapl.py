"""Energy of the processor by its own counters (RAPL), as Linux shows them under ``/sys/class/powercap``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from secateurs.types import How

POWERCAP = Path("/sys/class/powercap")

POLL_SECONDS = 30.0
"""How often a long window is read in between: a counter starts again at zero after some minutes at full power."""


@dataclass(frozen=True)
class Domain:
    """One counter.

    Args:
        path: Directory that holds ``energy_uj``.
        label: ``package-0``, ``dram``, ...
        wraps_at: Microjoules at which the counter starts again.
    """

    path: Path
    label: str
    wraps_at: int

    @classmethod
    def at(cls, path: Path) -> Domain | None:
        """The counter in a directory; None where it is not ours to read."""
        try:
            label = (path / "name").read_text().strip()
            domain = cls(path, label, int((path / "max_energy_range_uj").read_text()))
            domain.read()
        except (OSError, ValueError):
            return None
        return domain

    def read(self) -> int:
        """Microjoules since the counter last started."""
        return int((self.path / "energy_uj").read_text())


@dataclass(frozen=True)
class Rapl:
    """Processor packages and their memory, summed; they do not overlap.

    Args:
        domains: The counters.
        poll: Seconds between readings inside a long window.
    """

    domains: tuple[Domain, ...]
    poll: float = POLL_SECONDS
    name: ClassVar[str] = "rapl"
    how: ClassVar[How] = "measured"

    @property
    def scope(self) -> str:
        labels = ", ".join(domain.label for domain in self.domains)
        return f"the machine's {labels}, every program and idle power included"

    @classmethod
    def open(cls, root: Path = POWERCAP) -> Rapl | None:
        """The counters that may be read; None where there is none, or they are root's alone.

        Args:
            root: Where Linux shows them.
        """
        found = [Domain.at(path) for path in sorted(root.glob("intel-rapl:*"))] if root.is_dir() else []
        kept = tuple(d for d in found if d is not None and (d.label.startswith("package") or d.label == "dram"))
        # Memory without its processor would pass for the whole.
        return cls(kept) if any(d.label.startswith("package") for d in kept) else None

    def start(self) -> Callable[[], float | None]:
        """Read the counters now, and every so often; the function returned gives the joules since."""
        last = [domain.read() for domain in self.domains]
        total, over, lock = [0], threading.Event(), threading.Lock()

        def advance() -> None:
            with lock:
                for i, domain in enumerate(self.domains):
                    now = domain.read()
                    total[0] += now - last[i] + (domain.wraps_at if now < last[i] else 0)
                    last[i] = now

        def keep_reading() -> None:
            # A counter that cannot be read is reported by the last reading, not by a thread nobody watches.
            with suppress(OSError, ValueError):
                while not over.wait(self.poll):
                    advance()

        def stop() -> float:
            over.set()
            advance()
            return total[0] / 1e6

        threading.Thread(target=keep_reading, name="rapl", daemon=True).start()
        return stop
