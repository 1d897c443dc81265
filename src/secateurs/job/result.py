"""What a job found, for whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateurs.archive import plain
from secateurs.deploy import Function, read_build
from secateurs.report import document as documents
from secateurs.report.comparison import Comparison
from secateurs.search.outcome import Outcome


@dataclass(frozen=True)
class Result:
    """A finished job.

    Args:
        task: Its name.
        outcome: Of the search; ``outcome.model`` is W'.
        comparison: The dense network and the reloaded artifact, measured side by side.
        artifact: Where the pruned network lies.
        difference: Largest absolute difference of the reloaded network's outputs from those before it was saved.
        held: Whether the bound holds on the split ``final``, before saving and after reloading.
    """

    task: str
    outcome: Outcome
    comparison: Comparison
    artifact: Path
    difference: float
    held: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know, one line each."""
        return (*self.outcome.notes, *self.comparison.notes)

    @property
    def loading(self) -> str:
        """How the network is loaded in Python."""
        build = read_build(self.artifact)
        own = build is None or (isinstance(build, Function) and not build.ours)
        return f"secateurs.load({str(self.artifact)!r}{', build=...' if own else ''})"


def document(result: Result) -> dict[str, Any]:
    """A result as JSON takes it.

    Args:
        result: Of a job.
    """
    outcome = result.outcome
    return {
        "task": result.task,
        **documents.comparison(result.comparison),
        "epsilon": outcome.epsilon,
        "limit": outcome.limit,
        "held": result.held,
        "p": outcome.chosen.p if outcome.chosen else 0.0,
        "front": [plain(one) for one in outcome.front],
        "configurations": [plain(one) for one in outcome.configurations],
        "artifact": str(result.artifact),
        "reload_difference": result.difference,
        "search": {"seconds": outcome.seconds, "energy": plain(outcome.spent)},
        "notes": list(result.notes),
    }
