"""Tensors of a forward pass: which an operator takes and gives, what is noted of each, which share memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar
from weakref import ref

from torch import Tensor

V = TypeVar("V")


class ByTensor(Generic[V]):
    """Something for each of many tensors, told apart by identity, as long as they live."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[int, tuple[ref[Tensor], V]] = {}

    def __setitem__(self, tensor: Tensor, value: V) -> None:
        self._held[id(tensor)] = ref(tensor), value

    def __len__(self) -> int:
        return sum(1 for _ in self.items())

    def get(self, tensor: Tensor) -> V | None:
        """What is noted of a tensor, or None."""
        found = self._held.get(id(tensor))  # perhaps of one that is gone, whose place in memory this one took
        return found[1] if found and found[0]() is tensor else None

    def items(self) -> Iterator[tuple[Tensor, V]]:
        """The tensors that live, and what is noted of each."""
        for held, value in list(self._held.values()):
            if (tensor := held()) is not None:
                tensor._fix_weakref()  # type: ignore[attr-defined]  # as torch asks of whoever follows a weak reference
                yield tensor, value


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among the arguments, or the results, of an ATen operator, which holds some in lists at most."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += tensors_in(value)
    return found


def memory(tensor: Tensor) -> int:
    """A number that tensors have in common which share memory."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # a tensor that holds no memory of its own
        return id(tensor)
