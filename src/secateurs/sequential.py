"""One pass through a network in which every weight is settled as soon as what it multiplies is known.

All calibration batches go forward side by side, each in a coroutine of its own that stops before a module whose weight
is to be settled. When the last one has arrived, the weight is settled, and all go on with the new one: one forward pass
in all, and every weight meets what the settled ones before it really give. (Frantar & Alistarh 2023 and Sun et al. 2023
settle a whole block on what its dense weights give, and run it twice.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch
from greenlet import greenlet
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from secateurs.moments import add_products_, mirrored_
from secateurs.shelf import Fetch, Shelf, held, tidy
from secateurs.twins import Drift, Twins
from secateurs.types import Gram, SecateursError

aten = torch.ops.aten

Settle = Callable[[str, "Multiplied"], object]
"""Decide on the weight of this name, and change it, by what it multiplies."""


class Multiplied:
    """What a weight multiplies, summed over all tokens; one object for weights that multiply the same.

    Args:
        gram: Whether products of features are wanted, or their squares alone.
    """

    def __init__(self, gram: bool) -> None:
        self.tokens = 0
        self._products = gram
        self._sums: Tensor | None = None
        self.drift: Drift | None = None

    def add(self, x: Tensor) -> None:
        """Add tokens: ``(..., i)``."""
        x = x.detach().reshape(-1, x.shape[-1]).float()
        self.tokens += len(x)
        if self._sums is None:
            self._sums = x.new_zeros([x.shape[1]] * (2 if self._products else 1))
        if not self._products:
            self._sums += torch.linalg.vector_norm(x, dim=0).square()
            return
        add_products_(self._sums, x)

    @cached_property
    def gram(self) -> Gram:
        """``(i, i)``: the sum of ``x x^T``. What was added takes its place in memory."""
        assert self._sums is not None and self._products
        return Gram(mirrored_(self._sums))

    def aim(self, name: str, weight: Tensor) -> Tensor:
        """What a weight should come to: ``(o, i)``, itself where there was no twin to compare with."""
        if self.drift is None or self.drift.tokens < self.tokens:
            return weight
        return self.drift.made_up_for(name, weight, self.gram)

    @property
    def norm(self) -> Tensor:
        """``(i,)`` float32: the L2 norm of every feature."""
        assert self._sums is not None
        return (self._sums.diagonal() if self._products else self._sums).sqrt()


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
        weights: Name of a weight -> the module that multiplies its first input by it, as ``plain`` finds them.
        forwards: Each runs the network on one batch, without gradients. They go the same way, but for modules that some
            of them skip; what meets a weight after it is settled is not counted. Or these with a twin of each.
        settle: Called once for every weight that is met.
        gram: Whether products of input features are wanted, or their squares alone.
        shelf: Where what a batch holds is laid while it waits; None: it stays in memory.
        to_the_end: Whether forwards go on when the last weight is settled.
    """
    twins = forwards if isinstance(forwards, Twins) else None
    walk = _Walk({module: name for name, module in weights.items()}, settle, gram, shelf)
    beside = nullcontext() if twins is None else twins.met(weights.values())
    with torch.no_grad(), _before(weights.values(), walk.meet), beside:
        walk.run(forwards.ours if isinstance(forwards, Twins) else forwards, to_the_end, twins)


def plain(weights: Mapping[str, tuple[nn.Module, nn.Parameter]], forward: Callable[[], object]) -> dict[str, nn.Module]:
    """The modules that multiply their first input, along its last axis, by nothing but these weights.

    Args:
        weights: Name -> the module that holds it, and the parameter.
        forward: Runs the network on one batch; found out by looking on.

    Raises:
        SecateursError: A weight is met in another way: a convolution, experts in one tensor, a weight used twice.
    """
    inputs: dict[nn.Module, Tensor] = {}

    def meet(module: nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor):
            inputs.setdefault(module, given[0])

    seen = _Operands(parameter for _, parameter in weights.values())
    with torch.no_grad(), _before({module for module, _ in weights.values()}, meet), seen:
        forward()
    for name, (module, parameter) in weights.items():
        if module not in inputs or not _is(inputs[module], seen.others[parameter.data_ptr()]):
            raise SecateursError(
                f"{name} does not multiply what enters its module, and that alone, so it cannot be settled in one "
                "pass; keep it out of the structure, or leave out `sequential`"
            )
    return {name: module for name, (module, _) in weights.items()}


def _is(x: Tensor, operands: Sequence[Tensor]) -> bool:
    """Whether there is one operand alone, and it is this tensor, flattened to tokens x features."""
    flat = [tuple(it.shape) == (x[..., 0].numel(), x.shape[-1]) and it.data_ptr() == x.data_ptr() for it in operands]
    return flat == [True]


def holders(network: nn.Module, names: Iterable[str]) -> dict[str, tuple[nn.Module, nn.Parameter]]:
    """Weights by their names: the module that holds each, and the parameter."""
    return {name: (network.get_submodule(name.rpartition(".")[0]), network.get_parameter(name)) for name in names}


class _Operands(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's metaclass hook has no annotations
    """For every parameter, by its address, what it meets in a product; itself where another operator reads it."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.others: dict[int, list[Tensor]] = {parameter.data_ptr(): [] for parameter in parameters}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        left, right = args[-2:] if packet in (aten.mm, aten.addmm) else (None, None)
        for operand in (it for it in args if isinstance(it, Tensor) and it.data_ptr() in self.others):
            if not func.is_view:
                self.others[operand.data_ptr()].append(left if operand is right and left is not None else operand)
        return func(*args, **(kwargs or {}))


class _Walk:
    """Coroutines that wait for each other before every weight that is to be settled."""

    def __init__(self, names: Mapping[nn.Module, str], settle: Settle, gram: bool, shelf: Shelf | None) -> None:
        self.open = dict(names)
        self.order = {module: at for at, module in enumerate(names)}
        self.settle, self.gram, self.shelf = settle, gram, shelf
        self.multiplied: dict[nn.Module, Multiplied] = {}
        self.last: dict[greenlet, tuple[Tensor, Multiplied | None]] = {}
        self.main = greenlet.getcurrent()
        self.twins: Twins | None = None
        self.held: dict[greenlet, list[Tensor]] = {}
        self.away: dict[greenlet, Fetch] = {}

    def run(self, forwards: Sequence[Callable[[], object]], to_the_end: bool, twins: Twins | None) -> None:
        self.twins, waiting = twins, dict[greenlet, nn.Module]()
        others = set() if twins is None else twins.all
        try:
            for position, forward in enumerate(forwards):
                it = greenlet(forward)
                twin = None if twins is None else twins.beside(it, position)
                self._on(it, waiting)
                if twin is not None:
                    self._on(twin, waiting)
            while ahead := [at for it, at in waiting.items() if it not in others]:
                module = min(ahead, key=self.order.__getitem__)
                arrived = [it for it, at in waiting.items() if at is module]
                if self.shelf is not None:
                    tidy()
                self._settle(module, self.multiplied.pop(module))
                if not self.open and not to_the_end:
                    return
                for it in arrived:
                    self._on(it, waiting)
            self.open.clear()  # what twins alone meet
            for it in list(waiting):
                self._on(it, waiting)
        finally:
            for it in waiting:
                it.throw()  # leaves what it is in the midst of

    def _on(self, it: greenlet, waiting: dict[greenlet, nn.Module]) -> None:
        waiting.pop(it, None)
        if it in self.away:
            self.away.pop(it)()
        module = it.switch()
        if it.dead:
            self.last.pop(it, None)
            return
        waiting[it] = module
        if self.twins is not None and waiting.get(self.twins.of[it]) is module:
            self._compare(waiting[it], self.twins, it)

    def _compare(self, module: nn.Module, twins: Twins, it: greenlet) -> None:
        """A batch and its twin have both come to a weight."""
        ours, theirs = sorted((it, twins.of[it]), key=twins.all.__contains__)
        (x, multiplied), (dense, _) = self.last[ours], self.last[theirs]
        assert multiplied is not None
        multiplied.drift = multiplied.drift or Drift()
        twins.compare(self.open[module], multiplied.drift, ours, x, dense)
        if self.shelf is not None:  # together, as they may hold the same; the first to go on brings back all
            self.away[ours] = self.away[theirs] = self.shelf.away(self.held.pop(ours) + self.held.pop(theirs))

    def _settle(self, module: nn.Module, multiplied: Multiplied) -> None:
        if self.twins is not None:
            self.twins.keep(module)
        self.settle(self.open.pop(module), multiplied)

    def meet(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        """Before a module runs: wait, if its weight is not settled yet."""
        if module not in self.open:
            return
        here, x = greenlet.getcurrent(), given[0]
        before, multiplied = self.last.get(here, (None, None))
        if before is x and multiplied is not None:  # all have met this input: it is known already
            self._settle(module, multiplied)
            return
        if self.twins is None or here not in self.twins.all:
            multiplied = self.multiplied.setdefault(module, Multiplied(self.gram))
            multiplied.add(x)
        self.last[here] = (x, multiplied)
        if self.shelf is not None:
            self.held[here] = list(held())
            if self.twins is None:
                self.away[here] = self.shelf.away(self.held.pop(here))
        self.main.switch(module)


@contextmanager
def _before(modules: Any, meet: Callable[[nn.Module, tuple[Any, ...]], None]) -> Iterator[None]:
    handles = [module.register_forward_pre_hook(meet) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
