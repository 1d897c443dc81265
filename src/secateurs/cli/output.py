"""What a command prints when it is done: tables on a terminal, or one JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

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
