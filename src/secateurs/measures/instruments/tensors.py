"""What a tensor stores, whatever its layout, and which tensors are one and the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def values(tensor: Tensor) -> Tensor:
    """The numbers a tensor stores: itself, or the stored entries of a sparse one."""
    if tensor.layout == torch.strided:
        return tensor
    return tensor._values() if tensor.layout == torch.sparse_coo else tensor.values()


def stored(tensor: Tensor) -> int:
    """How many numbers it stores."""
    return values(tensor).numel()


def nonzero(tensor: Tensor) -> int:
    """How many of its numbers are not zero."""
    return int(torch.count_nonzero(values(tensor)))


def home(tensor: Tensor) -> int:
    """The address of its storage, shared by all views of it; 0 where there is none."""
    return values(tensor).untyped_storage().data_ptr()


def distinct(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """Each stretch of storage once, however many names it goes by."""
    seen: set[tuple[int, ...]] = set()
    for tensor in tensors:
        inside = values(tensor)
        where = home(tensor)
        key = (where, inside.storage_offset(), *inside.shape, *inside.stride()) if where else (0, id(tensor))
        if key not in seen:
            seen.add(key)
            yield tensor
