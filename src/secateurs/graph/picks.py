"""Numbers of positions: which tensors hold them, of which axis, and who may read them.

The best of an axis are known by their numbers, as a topk gives them, and so are the positions where a mask is set.
Where an axis shrinks, such numbers name the same positions anew. So an operator that reads them to find just these
positions, in this axis or in one of the same dims, goes with it; whatever else reads them tells one number from
another, and the axis is frozen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate

from torch import Tensor

from secateurs.graph.axes import Axis, MisalignedError, cut, factors, flag, freeze, leaves, size_of, tag, unify
from secateurs.graph.tensors import ByTensor

NUMBERED = "its positions are told apart by their numbers"
PICKED = "its positions are picked by rank"


@dataclass
class Picks:
    """The tensors that hold numbers of positions, as a forward pass goes on.

    Args:
        numbers: Tensor -> the axis whose positions its values are numbers of.
        waiting: Numbers that Python took, to select by them in its very next step.
        read: The numbers that the rule of the present operator reads to find positions.
        listed: How many like modules the lists of the network hold.
        told: The axes whose positions Python tells apart by number, one by one, as they may be modules in a list; how;
            and in which module.
        module: The module that is running.
    """

    numbers: ByTensor[Axis] = field(default_factory=ByTensor)
    waiting: list[tuple[Axis, int]] = field(default_factory=list)
    read: list[Tensor] = field(default_factory=list)
    listed: frozenset[int] = frozenset()
    told: list[tuple[Axis, str, str]] = field(default_factory=list)
    module: str = ""

    def of(self, tensor: Tensor) -> Axis:
        """The axis that the values of a tensor number; empty where they number none that may shrink."""
        return self.numbers.get(tensor) or ()

    def give(self, axis: Axis, tensor: Tensor) -> None:
        """The values of a tensor number this axis."""
        if any(leaf.frozen is None for leaf in leaves(axis)):
            self.numbers[tensor] = axis

    def is_listed(self, axis: Axis) -> bool:
        """Whether an axis is one dim, with as many positions as a list has like modules."""
        return size_of(axis) in self.listed and len(nodes := factors(axis)) == 1 and nodes[0].parts is None

    def tell(self, axis: Axis, reason: str) -> None:
        """Python tells one position from another by number: frozen, unless each turns out to be a module in a list."""
        if self.is_listed(axis):
            self.told.append((axis, reason, self.module))
        else:
            freeze(axis, reason)

    def take(self, axis: Axis, number: int) -> bool:
        """Whether a position of an axis is selected by a number that was just picked; it goes with the axis then."""
        found = next((picked for picked, value in self.waiting if value == number), None)
        if found is None:
            return False
        self.waiting.clear()
        return self._meet(axis, found)

    def find(self, axis: Axis, tensor: Tensor, reason: str) -> bool:
        """Whether positions of an axis are found by numbers of the same positions; it is frozen where they are not."""
        numbered = self.of(tensor)
        if not numbered:
            freeze(axis, reason)
            return False
        self.read.append(tensor)
        return self._meet(axis, numbered)

    def _meet(self, axis: Axis, numbered: Axis) -> bool:
        """Make an axis the one that is numbered, or the longer of them begin with the other."""
        same, rest = _lead(axis, size_of(numbered))
        same_numbers, _ = _lead(numbered, size_of(axis))
        freeze(rest, PICKED)
        if size_of(same) != size_of(same_numbers):
            freeze((*axis, *numbered), NUMBERED)
            return False
        unify(same, same_numbers, f"{PICKED} in two arrangements")
        flag(same, PICKED)
        tag(same, "picked")
        return True

    def spoken(self, axis: Axis, number: float) -> bool:
        """Whether a number is one of a position that may go."""
        if not 0 <= number < size_of(axis):
            return False
        nodes = factors(axis)
        parts = nodes[0].parts if len(nodes) == 1 and nodes[0].parts else [axis]
        ends = accumulate(size_of(part) for part in parts)
        part = next(part for part, end in zip(parts, ends, strict=True) if number < end)
        return any(leaf.frozen is None for leaf in leaves(part))

    def settle(self, waiting: Iterable[tuple[Axis, int]]) -> None:
        """Numbers that Python took, and did not select by at once, it may have used for anything."""
        for item in waiting:
            if any(item is other for other in self.waiting):
                self.tell(item[0], NUMBERED)
                self.waiting = [other for other in self.waiting if other is not item]


def _lead(axis: Axis, size: int) -> tuple[Axis, Axis]:
    """The first positions of an axis, and the others; the whole of it where it is shorter."""
    if size >= size_of(axis):
        return axis, ()
    nodes = factors(axis)
    parts = nodes[0].parts if len(nodes) == 1 else None
    if parts is not None and size not in accumulate(size_of(part) for part in parts):
        return axis, ()
    if parts is None and any(leaf.events for leaf in leaves(axis)):
        return axis, ()
    try:
        return cut(axis, size)
    except MisalignedError:
        return axis, ()
