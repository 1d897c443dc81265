"""Files that a report is written to: all of it, or nothing."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from secateurs.types import SecateursError


def free(path: str | Path) -> Path:
    """A file that may be written.

    Args:
        path: Where it is to be.

    Raises:
        SecateursError: Something is there, or its directory is not.
    """
    found = Path(path)
    if found.exists() or found.is_symlink():
        raise SecateursError(f"{found} exists: give a file that does not, or remove it")
    if not found.absolute().parent.is_dir():
        raise SecateursError(f"{found} cannot be written: there is no directory {found.parent}")
    return found


def write(path: Path, text: str) -> None:
    """Write a text aside, then give it its name.

    Args:
        path: Where it is to be.
        text: All of it.

    Raises:
        SecateursError: The disk is full or cannot be written.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        raise SecateursError(f"{path} could not be written: {error}") from error
    finally:
        aside.unlink(missing_ok=True)
