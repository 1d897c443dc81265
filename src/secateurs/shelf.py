"""Tensors that lie on disk while nobody looks at them, so that many batches need not fit in memory at once."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from secateurs.types import SecateursError

Fetch = Callable[[], None]
"""Brings a tensor back; to be called once."""


class Shelf:
    """A directory for what waits.

    Args:
        directory: Exists, on a disk with room for all that waits at once.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._numbers = itertools.count()

    def away(self, tensor: Tensor) -> Fetch:
        """Lay a tensor away: it has no memory until it is fetched, and then its values again.

        One that shares its memory with others, or whose axes are not in order, is left in memory.

        Raises:
            SecateursError: The disk is full, or cannot be written.
        """
        storage, size = tensor.untyped_storage(), tensor.numel() * tensor.element_size()
        if isinstance(tensor, torch.nn.Parameter) or storage.nbytes() != size or not tensor.is_contiguous() or not size:
            return _nothing
        path = self.directory / f"{next(self._numbers)}.waiting"
        try:
            with path.open("wb") as file:
                file.write(_memory(tensor.detach().cpu()))
        except OSError as error:
            path.unlink(missing_ok=True)
            raise SecateursError(f"{self.directory} cannot hold the activations that wait: {error.strerror}") from error
        storage.resize_(0)

        def fetch() -> None:
            storage.resize_(size)
            host = tensor.detach() if tensor.device.type == "cpu" else torch.empty_like(tensor, device="cpu")
            with path.open("rb") as file:
                file.readinto(_memory(host))
            if host.data_ptr() != tensor.data_ptr():
                tensor.detach().copy_(host)
            path.unlink()

        return fetch


def _nothing() -> None:
    pass


def _memory(tensor: Tensor) -> memoryview:
    """The bytes of a tensor on the CPU; numpy would make them impossible to free."""
    size = tensor.numel() * tensor.element_size()
    return memoryview((ctypes.c_ubyte * size).from_address(tensor.data_ptr())).cast("B")
