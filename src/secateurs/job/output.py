"""Where a job puts what it makes: looked at before any work is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

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


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Keep other processes from making the same while the body runs; the claim goes with the process, however it ends.

    Args:
        output: As ``check_output`` takes it; its parents are made, and go where they stay empty. While it is claimed a
            file ``.lock`` lies beside it.

    Raises:
        SecateursError: As ``check_output``, or another process is making it.
    """
    check_output(output)
    new = [place for place in output.absolute().parents if not place.exists()]
    output.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output.with_name(f"{output.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise SecateursError(f"another process is making {output}: wait for it, or name another output") from error
    try:
        check_output(output)  # it may have been finished meanwhile
        yield
    finally:
        with suppress(OSError):  # where it cannot go while it is held, releasing it takes it away
            Path(lock.lock_file).unlink()
        lock.release()
        for place in new:
            with suppress(OSError):  # something was made there
                place.rmdir()
