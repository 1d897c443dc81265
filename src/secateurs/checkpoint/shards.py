"""Safetensors files read one tensor at a time, by plain reads: a mapped file would count as memory held."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from secateurs.types import SecateursError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = MappingProxyType(
    {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }
)
"""How safetensors names the types of numbers that a network computes with."""
LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Stored:
    """Where one tensor lies.

    Args:
        file: Which file.
        dtype: As safetensors writes it, e.g. ``BF16``.
        shape: Of the tensor.
        start: First byte in the file.
        end: First byte after it.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Shards:
    """The tensors of one or several safetensors files.

    Args:
        tensors: Name -> where it lies.
    """

    tensors: Mapping[str, Stored]

    @classmethod
    def of(cls, files: Iterable[Path]) -> Shards:
        """Read the headers of files.

        Raises:
            SecateursError: A file is not there, is cut short, or is no safetensors file.
        """
        found: dict[str, Stored] = {}
        for file in files:
            found.update(_header(file))
        return cls(found)

    @classmethod
    def beside(cls, directory: Path) -> Shards:
        """Read the headers of a transformers directory: those of its index, or of the one file.

        Raises:
            SecateursError: A file is missing or broken, or lacks a tensor that the index says it has.
        """
        index = directory / INDEX
        if not index.is_file():
            return cls.of([directory / SINGLE])
        try:
            places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            places = {str(name): str(file) for name, file in places.items()}
        except (ValueError, KeyError, AttributeError) as error:
            raise SecateursError(f"{index} is no index of tensors ({type(error).__name__}: {error})") from error
        for name, file in places.items():
            if not (directory / file).is_file():
                raise SecateursError(f"{directory / file} is missing: by {index.name} it holds {name}")
        shards = cls.of(directory / file for file in sorted(set(places.values())))
        for name, file in places.items():
            if name not in shards.tensors:
                raise SecateursError(f"{directory / file} has no tensor {name}, which by {index.name} it holds")
        return shards

    @property
    def files(self) -> tuple[Path, ...]:
        """The files, by name."""
        return tuple(sorted({stored.file for stored in self.tensors.values()}))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tensors in these files."""
        return tuple(self.tensors)

    def dtype(self, name: str) -> torch.dtype:
        """As on disk.

        Raises:
            SecateursError: Of a type that networks do not compute with (an eight-bit float with scales beside it).
        """
        stored = self.tensors[name]
        if stored.dtype not in DTYPES:
            raise SecateursError(
                f"{stored.file}: tensor {name} is {stored.dtype}, which is not read; dequantise it first"
            )
        return DTYPES[stored.dtype]

    def read(self, name: str) -> Tensor:
        """Read one tensor into memory of its own.

        Raises:
            SecateursError: It cannot be read.
        """
        stored = self.tensors[name]
        dtype = self.dtype(name)
        raw = torch.empty(stored.end - stored.start, dtype=torch.uint8)
        try:
            with stored.file.open("rb") as file:
                file.seek(stored.start)
                n_read = file.readinto(raw.numpy().data)
        except OSError as error:
            raise SecateursError(f"{stored.file}: tensor {name} cannot be read: {error}") from error
        if n_read != raw.numel():
            raise SecateursError(f"{stored.file} is cut short: tensor {name} is not whole")
        return raw.view(dtype).reshape(stored.shape)

    def blank(self, name: str) -> Tensor:
        """A tensor of the type and shape of this one, without values: on the meta device."""
        return torch.empty(self.tensors[name].shape, dtype=self.dtype(name), device="meta")

    def digest(self) -> str:
        """Says whether two checkpoints are the same: every header, and 64 bytes from the middle of every tensor."""
        told = hashlib.sha256()
        for name, stored in sorted(self.tensors.items()):
            told.update(f"{name} {stored.dtype} {stored.shape}\n".encode())
            told.update(sample(stored.file, stored.start, stored.end))
        return told.hexdigest()


def sample(file: Path, start: int, end: int) -> bytes:
    """Up to 64 bytes of a file, from the middle of a range."""
    with file.open("rb") as opened:
        opened.seek(start + max(0, (end - start) // 2 - 32))
        return opened.read(min(64, end - start))


def _header(file: Path) -> dict[str, Stored]:
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            text = opened.read(length) if length <= min(size, LONGEST_HEADER) else b""
        entries: dict[str, Any] = json.loads(text)
        found = {n: _stored(file, e, 8 + length) for n, e in entries.items() if n != "__metadata__"}
    except OSError as error:
        raise SecateursError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SecateursError(f"{file} is no safetensors file, or its header is cut short") from error
    for name, stored in sorted(found.items(), key=lambda item: item[1].end):
        if stored.end > size:
            raise SecateursError(
                f"{file} is cut short: tensor {name} ends at byte {stored.end:,} of {size:,}; copy the file anew"
            )
    return found


def _stored(file: Path, entry: Mapping[str, Any], base: int) -> Stored:
    start, end = entry["data_offsets"]
    stored = Stored(file, str(entry["dtype"]), tuple(map(int, entry["shape"])), base + int(start), base + int(end))
    width = DTYPES[stored.dtype].itemsize if stored.dtype in DTYPES else None
    if start < 0 or (width is not None and end - start != width * prod(stored.shape)):
        raise ValueError(entry)
    return stored
