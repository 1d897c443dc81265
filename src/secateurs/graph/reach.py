"""Who reads what in a flow of values, and what is computed for one reading alone: the residual additions among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush

from secateurs.graph.flow import Flow
from secateurs.graph.network import ancestry

ADDITIONS = frozenset({"aten.add", "aten.add_"})


@dataclass(frozen=True, slots=True)
class Addition:
    """A residual addition ``x + f``.

    Args:
        step: Its number.
        module: The module that it lies in.
        x: The value that leads around.
        f: The value that is added, computed from x and for this addition alone.
        inside: The steps that compute f.
    """

    step: int
    module: str
    x: int
    f: int
    inside: frozenset[int]


class Reach:
    """Who reads what in a flow; steps that no result of the network needs are left out.

    Args:
        flow: Of one forward pass.

    Attributes:
        maker: Value -> the step that makes it.
        alive: The steps that some result needs.
        readers: Value -> the living steps that read it.
        total: Module -> how many living steps it and those below it run.
        products: Module -> how many of these are products.
        stored: Module -> the parameters and buffers in it.
    """

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.maker = flow.makers()
        self.alive = self._alive()
        self.readers: dict[int, set[int]] = {}
        self.total: Counter[str] = Counter()
        self.products: Counter[str] = Counter()
        self.stored: dict[str, list[str]] = {}
        for name in flow.stored:
            for path in ancestry(name):
                self.stored.setdefault(path, []).append(name)
        for i in self.alive:
            for value in flow.steps[i].reads:
                self.readers.setdefault(value, set()).add(i)
        for products, counted in ((False, self.total), (True, self.products)):
            running = Counter(flow.steps[i].module for i in self.alive if flow.steps[i].is_product or not products)
            for module, n in running.items():
                for path in ancestry(module):
                    counted[path] += n

    def _alive(self) -> frozenset[int]:
        found: set[int] = set()
        waiting = [self.maker[value] for value in self.flow.results if value in self.maker]
        while waiting:
            i = waiting.pop()
            if i not in found:
                found.add(i)
                waiting += [self.maker[value] for value in self.flow.steps[i].reads if value in self.maker]
        return frozenset(found)

    def only_for(self, value: int, reader: int) -> frozenset[int]:
        """The steps whose results reach the network's only by one step's reading of one value."""
        found: set[int] = set()
        waiting: list[int] = []

        def wait_for(makers_of: Iterable[int]) -> None:
            for v in makers_of:
                if v in self.maker:
                    heappush(waiting, -self.maker[v])

        wait_for([value])
        while waiting:
            i = -heappop(waiting)
            if i not in found and all(self._only(v, found, value, reader) for v in self.flow.steps[i].makes):
                found.add(i)
                wait_for(self.flow.steps[i].reads)
        return frozenset(found)

    def _only(self, made: int, found: set[int], value: int, reader: int) -> bool:
        readers = self.readers.get(made, set()) - ({reader} if made == value else set())
        return readers <= found and made not in self.flow.results

    @cached_property
    def additions(self) -> tuple[Addition, ...]:
        """Every residual addition, in order."""
        return tuple(
            found for i in sorted(self.alive) for found in self._residual(i) if self.flow.steps[i].operator in ADDITIONS
        )

    def _residual(self, i: int) -> Iterator[Addition]:
        reads = self.flow.steps[i].reads
        for x, f in (reads, reads[::-1]) if len(reads) == 2 else ():
            if len(self.readers[x]) > 1 and f in self.maker:
                inside = self.only_for(f, i)
                if self.readers[x] & inside:
                    yield Addition(i, self.flow.steps[i].module, x, f, inside)
