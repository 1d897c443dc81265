"""The modules of a network in order of execution, and the dims that run through them: what a drawing shows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from secateurs.report.folding import Folded, Priced, folded, pattern, span

ITSELF = "(the network itself)"
"""The name of the root, whose path is empty."""


@dataclass(frozen=True, order=True)
class Mark:
    """A tensor axis that carries a dim.

    Args:
        tensor: Its name within the module, e.g. ``weight``.
        axis: Which of its axes.
        strand: Which dim: a position in ``Picture.strands``.
    """

    tensor: str
    axis: int
    strand: int


@dataclass(frozen=True)
class Box:
    """Modules that differ in the index of their layer only, and carry the same dims in the same places."""

    names: tuple[str, ...]
    marks: tuple[Mark, ...]

    @property
    def label(self) -> str:
        return span(self.names) or ITSELF

    def axes(self) -> Iterator[tuple[str, int, tuple[int, ...]]]:
        """Every tensor axis with the dims it carries."""
        places = dict.fromkeys((mark.tensor, mark.axis) for mark in self.marks)
        for tensor, axis in places:
            yield tensor, axis, tuple(m.strand for m in self.marks if (m.tensor, m.axis) == (tensor, axis))


@dataclass(frozen=True)
class Picture:
    """What a drawing shows.

    Args:
        strands: The dims, repeated layers told once; kernel positions are left out.
        boxes: The modules that carry them, in order of execution.
    """

    strands: tuple[Folded, ...]
    boxes: tuple[Box, ...]

    def rows(self, strand: int) -> tuple[int, ...]:
        """The boxes through which a dim runs."""
        return tuple(row for row, box in enumerate(self.boxes) if any(m.strand == strand for m in box.marks))

    def lanes(self) -> tuple[int, ...]:
        """For each dim a lane, so that no two dims in one lane run side by side; the longest are leftmost."""
        rows = [self.rows(strand) for strand in range(len(self.strands))]
        ends = [(found[0], found[-1]) if found else (0, 0) for found in rows]
        taken: list[list[tuple[int, int]]] = []
        lanes = [0] * len(rows)
        for strand in sorted(range(len(rows)), key=lambda i: (ends[i][0] - ends[i][1], i)):
            first, last = ends[strand]
            free = (i for i, lane in enumerate(taken) if all(last < a or b < first for a, b in lane))
            lanes[strand] = next(free, len(taken))
            if lanes[strand] == len(taken):
                taken.append([])
            taken[lanes[strand]].append((first, last))
        return tuple(lanes)


def picture(costs: Sequence[Priced], modules: Sequence[str]) -> Picture:
    """Lay out what carries which dim.

    Args:
        costs: Of all dims.
        modules: Paths of the modules that hold tensors, in order of execution; others come last.
    """
    strands = folded(cost for cost in costs if cost.dim.role != "kernel")
    marks: dict[str, list[Mark]] = {name: [] for name in modules}
    carriers = {cost.dim.name: cost.dim.carriers for cost in costs}
    for number, strand in enumerate(strands):
        for name in strand.names:
            for carrier in carriers[name]:
                place, _, axis = carrier.rpartition("[")
                module, _, tensor = place.rpartition(".")
                marks.setdefault(module, []).append(Mark(tensor, int(axis.rstrip("]")), number))
    together: dict[Hashable, list[str]] = {}
    for module, found in marks.items():
        if found:
            together.setdefault((pattern(f"{module}."), tuple(sorted(set(found)))), []).append(module)
    boxes = (Box(tuple(names), tuple(sorted(set(marks[names[0]])))) for names in together.values())
    return Picture(tuple(strands), tuple(boxes))
