"""Read columns of a data set by path (parquet, csv, jsonl) or by its GLUE name on the hub, through ``datasets``."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import itertools
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from secateurs.types import SecateursError

_BUILDERS = MappingProxyType({".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json"})


def read_columns(source: str, columns: Sequence[str]) -> list[list[Any]]:
    """Read these columns of a table, in this order.

    Args:
        source: Path of a ``.parquet``, ``.csv``, ``.tsv``, ``.json`` or ``.jsonl`` file, or ``glue/<name>:<split>``.
        columns: Their names.

    Raises:
        SecateursError: No such file, not readable, unreachable hub, no such column, no rows, or an empty cell.
    """
    table = _load(source)
    if len(table) == 0:
        raise SecateursError(f"{source} has no rows; give a file with data")
    for column in columns:
        if column not in table.column_names:
            near = difflib.get_close_matches(column, table.column_names, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise SecateursError(f"{source} has no column '{column}'; {hint}it has: {', '.join(table.column_names)}")
    read = [list(table[column]) for column in columns]
    for column, values in zip(columns, read, strict=True):
        if None in values:
            raise SecateursError(_nothing(source, column, values.index(None)))
    return read


def class_indices(source: str, column: str, values: Sequence[Any], by_name: Mapping[str, int]) -> list[Any]:
    """Labels with names of classes replaced by their numbers; numbers stay as they are, written out as text too.

    One cell that is no number makes a csv's whole column one of texts: it is that cell that is wrong.

    Args:
        source: For what is said.
        column: For what is said.
        values: Cells, in the order of the rows.
        by_name: Name of a class -> number.

    Raises:
        SecateursError: A text is neither a name nor a number; the row is named.
    """
    found: list[Any] = []
    for row, value in enumerate(values):
        if isinstance(value, str) and value not in by_name:
            if not value.strip():
                raise SecateursError(_nothing(source, column, row))
            number = _integer(value)
            if number is None:
                raise SecateursError(
                    f"{source} row {row + 1}: {column} {value!r} is no label of the model's config; "
                    f"it has: {', '.join(by_name)}"
                )
            found.append(number)
        else:
            found.append(by_name[value] if isinstance(value, str) else value)
    return found


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _nothing(source: str, column: str, row: int) -> str:
    return f"{source} row {row + 1} has nothing in column '{column}'; fill it or drop the row"


def read_rows(source: str) -> list[dict[str, Any]]:
    """Read a whole table, row by row.

    Args:
        source: As ``read_columns`` takes it; a file may be gzipped.

    Raises:
        SecateursError: No such file, not readable, or no rows.
    """
    with unzipped(Path(source)) as path:
        rows: list[dict[str, Any]] = _load(str(path)).to_list()
    if not rows:
        raise SecateursError(f"{source} has no rows; give a file with data")
    return rows


@contextmanager
def unzipped(path: Path) -> Iterator[Path]:
    """The file itself; or what a gzipped one holds, while the body runs.

    Raises:
        SecateursError: It cannot be unpacked.
    """
    if path.suffix != ".gz":
        yield path
        return
    with TemporaryDirectory(prefix="secateurs-") as directory:
        plain = Path(directory) / path.stem
        try:
            with gzip.open(path, "rb") as packed, plain.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
        except (OSError, EOFError) as error:
            raise SecateursError(f"cannot read {path}: {error}") from error
        yield plain


def describe(source: str) -> dict[str, Any]:
    """What to write down about a source: its name, and for a file its size in bytes and its SHA-256."""
    path = Path(source)
    if not path.is_file():
        return {"source": source}
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"source": source, "bytes": path.stat().st_size, "sha256": digest}


def _load(source: str) -> Any:
    path = Path(source)
    if path.is_file():
        return _load_file(path)
    if source.startswith("glue/") and path.suffix not in _BUILDERS:
        return _load_glue(source)
    raise SecateursError(f"no such file: {source}; give the path of a parquet, csv or jsonl file")


def _load_file(path: Path) -> Any:
    if path.suffix not in _BUILDERS:
        raise SecateursError(f"{path} is not a table that can be read; use one of: {', '.join(_BUILDERS)}")
    with _quiet() as datasets:
        try:
            if _is_empty(path):
                return datasets.Dataset.from_dict({})
            return datasets.load_dataset(
                _BUILDERS[path.suffix], data_files=str(path), split="train", **_options(path.suffix)
            )
        except Exception as error:
            if _decoding(error):
                raise SecateursError(f"{path} is not UTF-8: write it anew in that encoding") from error
            raise SecateursError(f"cannot read {path}: {_root(error)}") from error


def _options(suffix: str) -> dict[str, Any]:
    """A cell that says NA or null is a text like any other; a tab-separated file quotes nothing."""
    if suffix == ".tsv":
        return {"keep_default_na": False, "sep": "\t", "quoting": 3}
    return {"keep_default_na": False} if suffix == ".csv" else {}


def _is_empty(path: Path) -> bool:
    """Whether the file has no rows, which each builder puts in other words."""
    if path.stat().st_size == 0:
        return True
    if path.suffix in (".csv", ".tsv"):
        with path.open("rb") as file:
            return sum(1 for _ in itertools.islice(file, 2)) < 2
    if path.suffix == ".parquet":
        from pyarrow.parquet import read_metadata

        return bool(read_metadata(path).num_rows == 0)
    return False


def _load_glue(source: str) -> Any:
    name, _, split = source.removeprefix("glue/").partition(":")
    with _quiet() as datasets:
        try:
            return datasets.load_dataset("nyu-mll/glue", name, split=split)
        except Exception as error:
            raise SecateursError(
                f"cannot get glue/{name} from the hub ({type(error).__name__}); "
                "give files instead: --train-file and --evaluation-file (parquet, csv or jsonl)"
            ) from error


@contextmanager
def _quiet() -> Iterator[Any]:
    """The datasets library without its progress bars and log lines."""
    try:
        import datasets
    except ImportError as error:
        raise SecateursError("reading data files needs: pip install 'secateurs[transformers]'") from error
    bars, verbosity = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)
    try:
        yield datasets
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()


def _decoding(error: BaseException | None) -> bool:
    """Whether bytes that are no text lie at the bottom of it."""
    while error is not None:
        if isinstance(error, UnicodeDecodeError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _root(error: BaseException) -> str:
    """The first line of the deepest cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
