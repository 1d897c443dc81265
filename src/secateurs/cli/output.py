"""What a command prints when it is done: tables on a terminal, or one JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from secateurs.job.result import Result

WIDEST = 100
"""Columns; a table is not stretched over a wider terminal."""


def show(document: Mapping[str, Any], as_json: bool, *shown: RenderableType) -> None:
    """Print the document as JSON, or what there is to see.

    Args:
        document: All that was found.
        as_json: Whether a program reads it.
        *shown: Tables and lines for a person.
    """
    if as_json:
        from secateurs.report.document import text

        click.echo(text(document))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.width = min(console.width, WIDEST) if console.is_terminal else WIDEST
    for it in shown:
        console.print(it, markup=False, soft_wrap=isinstance(it, str))


def show_result(title: str, result: Result, as_json: bool, dense: Path | None = None) -> None:
    """Print what a pruning job found.

    Args:
        title: What was pruned, on what.
        result: Of the job.
        as_json: Whether a program reads it.
        dense: Where the dense network lies, if that was made too.
    """
    from secateurs.job.result import document
    from secateurs.report import evaluated, table
    from secateurs.report.numbers import seconds

    found = result.outcome
    search = evaluated.table(found.configurations, found.front, found.chosen)
    both = table.comparison(result.comparison, title=f"{title}, epsilon {found.epsilon:g}")
    lines = [f"note: {note}" for note in result.notes]
    lines += [_verdict(result), f"The search took {seconds(found.seconds)}."]
    lines += [f"Dense network:  {dense}"] if dense else []
    lines += [f"Pruned network: {result.artifact}"]
    lines += [f"Reloaded in a new process; its outputs differ from those before by {result.difference:.1g} at most."]
    lines += _next_steps(result, dense) if dense else [f"In Python:      {result.loading}"]
    show(document(result), as_json, search, both, *lines)


def _verdict(result: Result) -> str:
    found = result.outcome
    if found.unchanged:
        return "No sparsity holds the bound: the network was saved as it is."
    held = "holds" if result.held else "does NOT hold"
    return f"The bound {held} on data that neither pruning nor the choice of p has seen."


def _next_steps(result: Result, dense: Path) -> list[str]:
    return [
        "",
        "Next:",
        f"  secateurs inspect {quote(str(result.artifact))} --task mnist",
        f"  secateurs compare {quote(str(dense))} {quote(str(result.artifact))} --batch-size 1",
        "and on a model of your own, a transformers classifier or a network that a function builds:",
        "  secateurs prune DIRECTORY --task glue/sst2 --select-from train --epsilon 0.01",
        "  secateurs prune net.py:build --task data.py:task --epsilon 0.01",
    ]
