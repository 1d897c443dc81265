"""One pass through a network in which every weight is settled as soon as what it multiplies is known.

All calibration batches go forward side by side, each in a coroutine of its own that stops before a module whose weight
is to be settled. When the last one has arrived, the weight is settled, and all go on with the new one: one forward pass
in all, and every weight meets what the settled ones before it really give. (Frantar & Alistarh 2023 and Sun et al. 2023
settle a whole block on what its dense weights give, and run it twice.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from greenlet import greenlet
from torch import Tensor, nn

from secateurs.loops import loop_of
from secateurs.multiplied import Multiplied, Stacked
from secateurs.operands import before, single
from secateurs.shelf import Fetch, Shelf, held, tidy
from secateurs.stacks import Watch, watched
from secateurs.twins import Drift, Twins

Settle = Callable[[str, Multiplied | Stacked | None], object]
"""Decide on the weight of this name, and change it, by what it multiplies; None where nothing came to it."""


def settle_(
    weights: Mapping[str, nn.Module],
    forwards: Sequence[Callable[[], object]] | Twins,
    settle: Settle,
    *,
    gram: bool = False,
    shelf: Shelf | None = None,
    to_the_end: bool = True,
) -> None:
    """Run all forwards, side by side, and settle every weight on the way.

    Args:
        weights: Name of a weight -> the module that multiplies its first input by it, or holds a stack of matrices, as
            ``operands.plain`` finds them.
        forwards: Each runs the network on one batch, without gradients. They go the same way, but for modules that some
            of them skip; what meets a weight after it is settled is not counted. Or these with a twin of each.
        settle: Called once for every weight; in the end for those that are not met.
        gram: Whether products of input features are wanted, or their squares alone.
        shelf: Where what a batch holds is laid while it waits; None: it stays in memory.
        to_the_end: Whether forwards go on when the last weight is settled.
    """
    twins = forwards if isinstance(forwards, Twins) else None
    alone = single(weights)
    stacks = {name: module for name, module in weights.items() if name not in alone}
    names = {module: name for name, module in alone.items()}
    walk = _Walk(list(weights), names, settle, gram, shelf)
    beside = nullcontext() if twins is None else twins.met([*names, *dict.fromkeys(stacks.values())])
    for name, module in stacks.items():
        walk.holding.setdefault(module, []).append(name)
    entered = before(walk.holding, walk.enter, with_kwargs=True)
    met = before(names, walk.meet)
    with torch.no_grad(), met, entered, watched(stacks, walk.meet_stack) as walk.stacks, beside:
        walk.run(forwards.ours if isinstance(forwards, Twins) else forwards, to_the_end, twins)


class _Walk:
    """Coroutines that wait for each other before every weight that is to be settled."""

    stacks: Watch

    def __init__(
        self, names: Sequence[str], single: Mapping[nn.Module, str], settle: Settle, gram: bool, shelf: Shelf | None
    ) -> None:
        self.open = set(names)
        self.order = {name: at for at, name in enumerate(names)}
        self.single, self.module = single, {name: module for module, name in single.items()}
        self.settle, self.gram, self.shelf = settle, gram, shelf
        self.multiplied: dict[str, Multiplied | Stacked] = {}
        self.last: dict[greenlet, tuple[Tensor, Multiplied | None]] = {}
        self.main = greenlet.getcurrent()
        self.twins: Twins | None = None
        self.held: dict[greenlet, list[Tensor]] = {}
        self.orders: dict[str, Tensor] = {}
        self.away: dict[greenlet, Fetch] = {}
        self.holding: dict[nn.Module, list[str]] = {}
        self.at_once: set[nn.Module] = set()
        self.trying = False

    def run(self, forwards: Sequence[Callable[[], object]], to_the_end: bool, twins: Twins | None) -> None:
        self.twins, waiting = twins, dict[greenlet, str]()
        others = set() if twins is None else twins.all
        try:
            for position, forward in enumerate(forwards):
                it = greenlet(forward)
                twin = None if twins is None else twins.beside(it, position)
                self._on(it, waiting)
                if twin is not None:
                    self._on(twin, waiting)
            while ahead := [at for it, at in waiting.items() if it not in others]:
                name = min(ahead, key=self.order.__getitem__)
                arrived = [it for it, at in waiting.items() if at == name]
                if self.shelf is not None:
                    tidy()
                self._settle(name, self.multiplied.pop(name))
                if not self.open and not to_the_end:
                    return
                for it in arrived:
                    self._on(it, waiting)
            unmet = [name for name in self.order if name in self.open]
            self.open.clear()
            for it in list(waiting):  # before what twins alone meet
                self._on(it, waiting)
            for name in unmet:
                self._settle(name, None)
        finally:
            for it in waiting:
                it.throw()  # leaves what it is in the midst of

    def _on(self, it: greenlet, waiting: dict[greenlet, str]) -> None:
        waiting.pop(it, None)
        if it in self.away:
            self.away.pop(it)()
        name = it.switch()
        if it.dead:
            self.last.pop(it, None)
            return
        waiting[it] = name
        if self.twins is not None and waiting.get(self.twins.of[it]) == name:
            self._compare(name, self.twins, it)

    def _compare(self, name: str, twins: Twins, it: greenlet) -> None:
        """A batch and its twin have both come to a weight."""
        ours, theirs = sorted((it, twins.of[it]), key=twins.all.__contains__)
        if name in self.module:  # to the experts of a stack they may send other tokens
            (x, multiplied), (dense, _) = self.last[ours], self.last[theirs]
            assert multiplied is not None
            multiplied.drift = multiplied.drift or Drift()
            twins.compare(name, multiplied.drift, ours, x, dense)
        if self.shelf is not None:  # together, as they may hold the same; the first to go on brings back all
            self.away[ours] = self.away[theirs] = self.shelf.away(self.held.pop(ours) + self.held.pop(theirs))

    def _settle(self, name: str, multiplied: Multiplied | Stacked | None) -> None:
        self.open.discard(name)
        if name in self.module:
            if self.twins is not None:
                self.twins.keep(self.module[name])
            self.settle(name, multiplied)
            if isinstance(multiplied, Multiplied) and multiplied.order is not None:
                self.orders[name] = multiplied.order
            return
        (module,) = (module for module, names in self.holding.items() if name in names)
        if module not in self.at_once:
            self._settle_loop(module, name, multiplied)
            return
        if self.twins is not None:
            self.twins.stacks[name] = self.stacks.own[name].detach().clone()
        self.stacks.look_away(name)
        self.settle(name, multiplied)
        if self.twins is not None:
            self.stacks.look(name)

    def _settle_loop(self, module: nn.Module, first: str, multiplied: Multiplied | Stacked | None) -> None:
        """All stacks of a module that multiplies their matrices one after the other."""
        names = [first, *(name for name in self.holding[module] if name in self.open)]
        for name in names:
            self.open.discard(name)
            self.stacks.look_away(name)
        if self.twins is not None:
            self.twins.keep(module)
        for name in names:
            self.settle(name, multiplied if name == first else self.multiplied.pop(name, None))

    def meet(self, module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Before a module runs: wait, if its weight is not settled yet; then go on with features in its order."""
        name = self.single[module]
        if name not in self.open:
            return None
        here, x = greenlet.getcurrent(), given[0]
        before, multiplied = self.last.get(here, (None, None))
        if before is x and multiplied is not None:  # all have met this input: it is known already
            self._settle(name, multiplied)
            return None
        if not self._theirs(here):
            found = self.multiplied.setdefault(name, Multiplied(self.gram))
            assert isinstance(found, Multiplied)
            multiplied = found
            multiplied.add(x)
        self.last[here] = (x, multiplied)
        self._wait(here, name)
        order = None if self._theirs(here) else self.orders.get(name)
        return None if order is None else (x.index_select(-1, order), *given[1:])

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a module with stacks runs: wait, if it multiplies their matrices one after the other."""
        here, names = greenlet.getcurrent(), [name for name in self.holding[module] if name in self.open]
        if not names or module in self.at_once:
            return
        if not self._theirs(here):
            self.trying = True
            found = loop_of(module, args, kwargs, {name: self.stacks.own[name] for name in names})
            self.trying = False
            if not found:
                self.at_once.add(module)
                return
            for name, matrix, x in found:
                seen = self.multiplied.setdefault(name, Stacked(self.gram, len(self.stacks.own[name])))
                assert isinstance(seen, Stacked)
                seen.add_to(matrix, x)
        self.last.pop(here, None)
        self._wait(here, names[0])

    def meet_stack(self, name: str, x: Tensor, ends: Tensor | None) -> Tensor | None:
        """Before a stack is multiplied: wait, if it is not settled yet; twins are given the dense one."""
        here = greenlet.getcurrent()
        if name in self.open and not self.trying:
            if not self._theirs(here):
                found = self.multiplied.setdefault(name, Stacked(self.gram, len(self.stacks.own[name])))
                assert isinstance(found, Stacked)
                found.add(x, ends)
            self.last.pop(here, None)
            self._wait(here, name)
        return self.twins.stacks.get(name) if self.twins is not None and self._theirs(here) else None

    def _theirs(self, it: greenlet) -> bool:
        return self.twins is not None and it in self.twins.all

    def _wait(self, here: greenlet, name: str) -> None:
        if self.shelf is not None:
            self.held[here] = list(held())
            if self.twins is None:
                self.away[here] = self.shelf.away(self.held.pop(here))
        self.main.switch(name)
