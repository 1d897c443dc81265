"""Where a job puts what it makes: looked at before any work is done."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from secateurs.types import SecateursError


def check_output(output: Path) -> None:
    """Refuse a directory that is there already, as nothing is overwritten, and one that cannot be made.

    Args:
        output: To be made; so are its parents.

    Raises:
        SecateursError: It exists, or nothing can be written there.
    """
    try:
        if output.exists() or output.is_symlink():
            raise SecateursError(f"the output directory {output} exists; name another or remove it")
        there = next(place for place in output.absolute().parents if place.exists())
        with TemporaryDirectory(prefix="secateurs-", dir=there):  # permissions alone do not tell
            pass
    except OSError as error:
        raise SecateursError(
            f"the output directory {output} cannot be written: {error.strerror or error}; name another"
        ) from error
