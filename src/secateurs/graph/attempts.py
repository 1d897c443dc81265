"""Which of several choices to try next: one change at a time, keeping what gets a forward pass further.

A pass with a wrong size raises, or goes astray, near the module that keeps the size. So choices need not be tried in
every combination: how far a pass went beside the pass that is wanted tells which of two choices is the better one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations, islice, product
from math import inf
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from secateurs.graph.agreement import apart
from secateurs.graph.trace import results

MOST_TRIES = 200

MOST_IN_VAIN = 40
"""So many combinations may leave a pass where it was, failing with the same words: what is wrong lies elsewhere."""

AGREEMENT = 1e-3
"""Largest difference, relative to the largest number, of two tensors that count as equal on the way."""

SAMPLE = 1000
"""About so many numbers of a tensor stand for it on the way."""

Way = TypeVar("Way")


@dataclass(frozen=True, slots=True)
class Mark:
    """What is kept of a module's first output: its shape, numbers of it from all over, and which module it was."""

    module: int
    shape: tuple[int, ...]
    sample: Tensor | None

    def apart(self, other: Mark) -> float:
        """How far apart the outputs are; of other shapes it is not known, as dims that shrank are in them."""
        if self.shape != other.shape or self.sample is None or other.sample is None:
            return 0.0
        return apart(other.sample, self.sample)


@dataclass
class Progress:
    """How far a pass goes beside an earlier one: modules left in agreement, and operators since the last of them.

    Args:
        wanted: What the modules of the earlier pass gave.
        reached: Modules, operators.
        apart: How far apart what two like modules gave was at most.
        said: What is wrong with what it gave, in words.
    """

    wanted: list[Mark] = field(default_factory=list)
    reached: tuple[int, int] = (0, 0)
    apart: float = 0.0
    said: str = ""

    @contextmanager
    def recording(self) -> Iterator[None]:
        """The pass inside is the one that is wanted."""
        with _leaving(self.wanted.append):
            yield

    @contextmanager
    def following(self) -> Iterator[None]:
        """Note how far the pass inside goes, whether it raises or not."""
        self.reached, self.apart = (0, 0), 0.0
        known = {wanted.module for wanted in self.wanted}
        at, astray = 0, False

        def left(mark: Mark) -> None:
            nonlocal at, astray
            if mark.module not in known:  # it stands where a layer was
                return
            rest = range(at, len(self.wanted))  # layers between may be gone
            found = next((i for i in rest if self.wanted[i].module == mark.module), None)
            off = inf if found is None else self.wanted[found].apart(mark)
            self.apart = max(self.apart, off)
            astray = astray or off > AGREEMENT
            at = at if found is None else found + 1
            if not astray:
                self.reached = (at, 0)

        def ran() -> None:
            if not astray:
                self.reached = (self.reached[0], self.reached[1] + 1)

        with _Counting(ran), _leaving(left):
            yield


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, ran: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ran = ran

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.ran()
        return out


@contextmanager
def _leaving(told: Callable[[Mark], None]) -> Iterator[None]:
    """While open, tell of every module's output as it is left."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        first = next(results(output), None)
        if first is not None and not (first.is_nested or first.is_sparse or first.is_quantized):
            with _disable_current_modes():  # what is computed here is no part of the pass
                told(_mark(module, first))

    handle = torch.nn.modules.module.register_module_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _mark(module: nn.Module, tensor: Tensor) -> Mark:
    if tensor.is_meta or not tensor.is_floating_point():
        return Mark(id(module), tuple(tensor.shape), None)
    every = tensor.numel() // SAMPLE | 1  # odd, so as not to meet the same heads in every row
    return Mark(id(module), tuple(tensor.shape), tensor.detach().reshape(-1)[::every].clone())


def attempts(choices: Sequence[Sequence[Way]], progress: Progress) -> Iterator[list[Way]]:
    """One way of each choice, until the caller has found it right; ``progress`` says how far the last one went.

    First the first way of each; then one change at a time, kept where a pass got further; at last two changes at once,
    and more, while that changes anything.
    """
    for picks in islice(_searched([len(ways) for ways in choices], progress), MOST_TRIES):
        yield [ways[i] for ways, i in zip(choices, picks, strict=True)]


def _searched(counts: Sequence[int], progress: Progress) -> Iterator[tuple[int, ...]]:
    best = (0,) * len(counts)
    yield best
    tried, furthest, said, moved = {best}, progress.reached, progress.said, True
    while moved:
        moved = False
        for at, other in ((at, other) for at, count in enumerate(counts) for other in range(count)):
            picks = (*best[:at], other, *best[at + 1 :])
            if picks in tried:
                continue
            tried.add(picks)
            yield picks
            if progress.reached > furthest:
                best, furthest, said, moved = picks, progress.reached, progress.said, True
    vain = 0
    several = (chosen for n in range(2, len(counts) + 1) for chosen in combinations(range(len(counts)), n))
    for chosen in several:
        for steps in product(*(range(1, counts[at]) for at in chosen)):
            changed = dict(zip(chosen, steps, strict=True))
            picks = tuple((pick + changed.get(at, 0)) % counts[at] for at, pick in enumerate(best))
            if picks not in tried:
                yield picks
                vain += (progress.reached, progress.said) == (furthest, said)
                if vain == MOST_IN_VAIN:
                    return
