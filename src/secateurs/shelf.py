"""Tensors that lie on disk while nobody looks at them, so that many batches need not fit in memory at once."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn

from secateurs.types import SecateursError

Fetch = Callable[[], None]
"""Brings back what was laid away; to be called once."""

LEAST = 1 << 16
"""Bytes of a tensor for which the way to the disk is worth it."""
LARGE = 4 << 20
"""Bytes of a piece of memory that is given back at once where that is asked for."""
MMAP_THRESHOLD = -3
"""The option of the GNU C library's ``mallopt`` that says from how many bytes on pieces lie outside of the heap."""
MOST_IN_HEAP = 32 << 20
"""What that library raises it to by itself."""


class Shelf:
    """A directory for what waits.

    Args:
        directory: Exists, on a disk with room for all that waits at once. Its files are the caller's to remove.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._free: defaultdict[int, list[Path]] = defaultdict(list)  # written over: new pages would cost more
        self._numbers = itertools.count()
        self._spared: frozenset[int] = frozenset()

    def spare(self, network: nn.Module) -> None:
        """The tensors of a network are everybody's, and stay where they are."""
        tensors = itertools.chain(network.parameters(), network.buffers())
        self._spared = frozenset(it.untyped_storage().data_ptr() for it in tensors if not it.is_meta)

    def away(self, tensors: Iterable[Tensor]) -> Fetch:
        """Lay tensors away: they have no memory until they are fetched, and then their values again.

        Nobody may look at them meanwhile, nor at others in the same memory.

        Raises:
            SecateursError: The disk is full, or cannot be written; nothing is lost.
        """
        storages = {it.untyped_storage().data_ptr(): it.untyped_storage() for it in tensors}
        laid = [self._lay(it) for at, it in storages.items() if at not in self._spared and it.nbytes() >= LEAST]

        def fetch() -> None:
            while laid:
                laid.pop()()

        return fetch

    def _lay(self, storage: UntypedStorage) -> Fetch:
        size = storage.nbytes()
        used = self._free[size]
        path = used.pop() if used else self.directory / f"{next(self._numbers)}.waiting"
        try:
            with path.open("r+b" if path.exists() else "wb") as file:
                file.write(_memory(_on_cpu(storage)))
        except OSError as error:
            path.unlink(missing_ok=True)
            raise SecateursError(f"{self.directory} cannot hold the activations that wait: {error.strerror}") from error
        storage.resize_(0)

        def fetch() -> None:
            storage.resize_(size)
            host = storage if storage.device.type == "cpu" else _on_cpu(storage)
            with path.open("rb") as file:
                file.readinto(_memory(host))
            if host is not storage:
                storage.copy_(host)
            self._free[size].append(path)

        return fetch


class Laid(Mapping[str, Tensor]):
    """Tensors by name that lie on disk, and are read one by one."""

    def __init__(self, directory: Path) -> None:
        self._files: dict[str, Path] = {}
        self._directory = directory

    def add(self, name: str, tensor: Tensor) -> None:
        self._files[name] = self._directory / f"{len(self._files)}.laid"
        torch.save(tensor, self._files[name])

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = torch.load(self._files[name], weights_only=True)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


@contextmanager
def waiting_room(shelf: str | Path | None, output: Path) -> Iterator[Path]:
    """A directory for what waits; what a killed job with the same output left there is cleared away.

    Args:
        shelf: An existing directory; None: one for temporary files.
        output: What the job makes.

    Raises:
        SecateursError: The shelf cannot be written.
    """
    if shelf is None:
        with TemporaryDirectory(prefix="secateurs-") as made:
            yield Path(made)
        return
    own = Path(shelf) / f"secateurs-{hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:12]}"
    shutil.rmtree(own, ignore_errors=True)
    try:
        own.mkdir()
    except OSError as error:
        raise SecateursError(f"the shelf {shelf} cannot be written: {error.strerror}; give another") from error
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def tidy() -> None:
    """Give freed memory back to the system: the C library keeps what lies between pieces in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def given_back() -> Iterator[None]:
    """While open, large pieces of memory go back to the system as soon as they are freed.

    In the C library's heap, what waits and what is small would lie between them and keep it from shrinking. To be
    opened before large pieces are taken: holes that they leave in the heap are filled first. New memory for every piece
    costs time.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(MMAP_THRESHOLD, LARGE)
    try:
        yield
    finally:
        if set_option is not None:
            set_option(MMAP_THRESHOLD, MOST_IN_HEAP)


def held() -> Iterator[Tensor]:
    """The tensors that the functions under way hold in their variables, from the caller outwards."""
    frame = sys._getframe(1)
    while frame is not None:
        yield from _tensors(list(frame.f_locals.values()), 2)
        frame = frame.f_back  # type: ignore[assignment]


def _tensors(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, tuple | list):
        for it in value:
            yield from _tensors(it, depth - 1)
    elif depth and isinstance(value, dict):
        yield from _tensors(list(value.values()), depth)


def _on_cpu(storage: UntypedStorage) -> UntypedStorage:
    host: UntypedStorage = storage.cpu()  # type: ignore[no-untyped-call]
    return host


def _memory(storage: UntypedStorage) -> memoryview:
    """The bytes of a storage on the CPU; numpy would make them impossible to free."""
    return memoryview((ctypes.c_ubyte * storage.nbytes()).from_address(storage.data_ptr())).cast("B")
