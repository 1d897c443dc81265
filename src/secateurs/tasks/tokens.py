"""Streams of token ids: from any text file, table, or file of ids, and from what is at hand in Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateurs.tasks.pretrained import quiet
from secateurs.tasks.tables import describe, read_columns, unzipped
from secateurs.types import SecateursError, few

Source = str | Path | Sequence[str] | Tensor
"""A file, texts, or token ids."""

TABLES = (".parquet", ".csv", ".tsv", ".json", ".jsonl")
IDS = (".pt", ".npy", ".safetensors")


def read_tokens(source: Source, tokenizer: Any = None, column: str = "text") -> Tensor:
    """Read the token ids of a source.

    Args:
        source: A text file; a table (parquet, csv, tsv, json, jsonl), whose texts are joined by a blank line; either of
            them gzipped; a file of token ids (``.pt``, ``.npy``, ``.safetensors`` with one tensor, or one that is named
            ``input_ids``). Or texts, joined likewise, or a tensor of ids.
        tokenizer: Splits texts into ids, without special tokens; ids need none.
        column: Of a table.

    Returns:
        int64 ``(n_tokens,)``, or ``(n_sequences, length)`` where the ids come so.

    Raises:
        SecateursError: No such file, not readable, no such column, no text, texts without a tokenizer, or ids that are
            no integers of one or two dimensions.
    """
    if isinstance(source, Tensor):
        return _checked(source, "the token ids")
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise SecateursError(f"no such file: {path}; give a text, a table, or a file of token ids")
        if path.suffix in IDS:
            return _checked(_ids(path), str(path))
        text, name = _text(path, column), str(path)
    else:
        text, name = "\n\n".join(source), "the texts"
    if not text.strip():
        raise SecateursError(f"{name} holds no text; give one with words in it")
    if tokenizer is None:
        raise SecateursError(f"{name} is text, and the model has no tokenizer; give token ids, or save a tokenizer")
    with quiet():  # transformers warns that a text is longer than what the model can take at once
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.tensor(ids, dtype=torch.int64)


def described(source: Source) -> dict[str, Any]:
    """What to write down about a source: a file's name, size and SHA-256; of anything else how much there is.

    Args:
        source: As ``read_tokens`` takes it.
    """
    if isinstance(source, str | Path):
        return describe(str(source))
    if isinstance(source, Tensor):
        return {"source": "token ids", "shape": list(source.shape)}
    return {"source": "texts", "texts": len(source)}


def _text(path: Path, column: str) -> str:
    with unzipped(path) as plain:
        if plain.suffix in TABLES:
            return "\n\n".join(map(str, read_columns(str(plain), [column])[0]))
        try:
            return plain.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise SecateursError(f"{path} is no text in UTF-8 (byte {error.start}); give a text or a table") from error


def _ids(path: Path) -> Any:
    """The tensor of a file, or the one of several that is named ``input_ids``."""
    try:
        if path.suffix == ".npy":
            import numpy as np

            return torch.from_numpy(np.load(path, allow_pickle=False).astype("int64", casting="same_kind"))
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format fails in its own way
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SecateursError(f"cannot read token ids from {path}: {first}") from error
    if isinstance(found, dict):
        named = found.get("input_ids", next(iter(found.values())) if len(found) == 1 else None)
        if named is None:
            raise SecateursError(f"{path} holds {few(sorted(map(str, found)))}; name the token ids 'input_ids'")
        return named
    return found


def _checked(ids: Any, name: str) -> Tensor:
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.is_complex() or ids.dim() not in (1, 2):
        what = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise SecateursError(f"{name} must be integers, (n_tokens,) or (n_sequences, length), got {what}")
    if ids.numel() and int(ids.min()) < 0:
        raise SecateursError(f"{name} holds the token id {int(ids.min())}; ids count from 0")
    return ids.detach().cpu().long()
