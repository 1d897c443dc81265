"""Drawings of a network's dims, as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from secateurs.report.dot import dot
from secateurs.report.files import free
from secateurs.report.files import write as write_text
from secateurs.report.folding import Priced
from secateurs.report.page import page


class Inspected(Protocol):
    """A network taken apart."""

    @property
    def costs(self) -> Sequence[Priced]: ...
    @property
    def modules(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Drawing:
    """A file that is to be drawn."""

    path: Path
    form: Literal["dot", "html"]


def wanted(dot: str | None, html: str | None) -> tuple[Drawing, ...]:
    """The files that are asked for.

    Args:
        dot: A file for Graphviz.
        html: A file for a browser.

    Raises:
        SecateursError: One of them exists, or its directory does not.
    """
    given: tuple[tuple[str | None, Literal["dot", "html"]], ...] = ((dot, "dot"), (html, "html"))
    return tuple(Drawing(free(path), form) for path, form in given if path)


def write(drawing: Drawing, title: str, totals: str, inspected: Inspected) -> Path:
    """Draw one; the file is whole, or is not there.

    Args:
        drawing: Where, and in which form.
        title: What the network is called.
        totals: What all of it costs, in a line.
        inspected: Its dims, and its modules in order of execution.

    Returns:
        Where it is.

    Raises:
        SecateursError: It cannot be written.
    """
    costs, modules = inspected.costs, inspected.modules
    text = dot(title, costs, modules) if drawing.form == "dot" else page(title, totals, costs, modules)
    write_text(drawing.path, text)
    return drawing.path
