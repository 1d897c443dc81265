"""What a network calls each block of a chain with.

It is found by running the network's own forward pass with blocks that compute nothing: embeddings, masks, position
tables and whatever else the network prepares come out as it prepares them, at the cost of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from secateurs.blocks.chain import Chain
from secateurs.types import Inputs, SecateursError

MOST_RETURNED = 6
"""The longest tuple that a block is expected to return."""

State = tuple[Any, ...]
"""What one block hands to the next: the hidden state first, then whatever else it returns."""


@dataclass(frozen=True)
class Handed:
    """Stands in an entry for what the block before returned.

    Args:
        position: 0 is the hidden state; the others as the block returns them.
    """

    position: int


@dataclass(frozen=True, eq=False)
class Entry:
    """The arguments that one block is called with, ``Handed`` where the block before comes in."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Calls:
    """What the blocks of a chain are called with in one forward pass.

    Args:
        chain: Whose blocks.
        entries: One for each block.
        first: The hidden state that enters the first block.
        returned: Length of the tuple that a block returns; None where it returns the hidden state alone.
    """

    chain: Chain
    entries: tuple[Entry, ...]
    first: Tensor
    returned: int | None

    def step(self, position: int, block: nn.Module, state: State) -> State:
        """Run one block.

        Args:
            position: Which block of the chain.
            block: That block, with its tensors in place.
            state: What the block before returned; ``(first,)`` for the first one.

        Returns:
            What this one returns; the hidden state comes first.
        """
        args, kwargs = self.arguments(position, state)
        out = block(*args, **kwargs)
        return tuple(out) if isinstance(out, (tuple, list)) else (out,)

    def arguments(self, position: int, state: State) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a block is called with: by position, and by name.

        Args:
            position: Which block of the chain.
            state: What the block before returned.
        """
        entry = self.entries[position]
        args = tuple(_given(value, state) for value in entry.args)
        return args, {name: _given(value, state) for name, value in entry.kwargs.items()}


Before = Sequence[tuple[Calls, Tensor]]
"""Chains that have run already, each with the hidden state that its last block returned."""


def entries(model: nn.Module, chain: Chain, inputs: Inputs, before: Before = ()) -> Calls:
    """Find what each block of a chain is called with, by running the network as far as the chain's last block.

    The blocks compute nothing meanwhile, so their parameters may be on the meta device; what is outside of the chains
    and runs before the last block must be real.

    Args:
        model: In evaluation mode; left as it is.
        chain: One of its chains.
        inputs: One batch.
        before: Every chain that runs earlier.

    Returns:
        The calls; tensors that the network gives to several blocks are the same object in each.

    Raises:
        SecateursError: A block is skipped, called twice, or gets something other than what the one before returned.
    """
    failures: list[tuple[int, Exception]] = []
    for returned in (None, *range(1, MOST_RETURNED + 1)):
        recorder = _Recorder(chain, returned)
        try:
            return recorder.record(model, inputs, before)
        except SecateursError:
            raise
        except Exception as error:
            if not recorder.calls:
                raise
            failures.append((len(recorder.calls), error))
    _, farthest = max(failures, key=lambda failure: failure[0])
    raise SecateursError(f"the blocks of {chain.name} cannot be run one by one: {farthest}") from farthest


class _Stop(Exception):  # noqa: N818
    """The last block was reached."""


class _Broken(Exception):  # noqa: N818
    """A block was not called with what the one before handed on."""


@dataclass
class _Recorder:
    """Takes down the calls of a chain whose blocks hand on what they are given, in one form of returning it."""

    chain: Chain
    returned: int | None

    def __post_init__(self) -> None:
        self.calls: list[Entry] = []
        self.first: Tensor | None = None
        self.place: int | str = 0
        self.handed: State = ()

    def record(self, model: nn.Module, inputs: Inputs, before: Before) -> Calls:
        acts: dict[nn.Module, Callable[..., Any]] = {}
        for calls, hidden in before:
            for block in calls.chain.modules(model):
                acts[block] = _idle(hidden, calls.returned)
        for position, block in enumerate(self.chain.modules(model)):
            acts[block] = self._act(position)
        with _acting(acts), _without_cache(model, inputs) as given, torch.no_grad():
            try:
                model(**given) if isinstance(given, Mapping) else model(*given)
            except _Stop:
                assert self.first is not None
                return Calls(self.chain, tuple(self.calls), self.first, self.returned)
        missed = self.chain.blocks[len(self.calls)]
        raise SecateursError(f"{missed} is not called in a forward pass: its chain cannot be run block by block")

    def _act(self, position: int) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            if position != len(self.calls):
                raise SecateursError(
                    f"{self.chain.blocks[position]} is called out of order or twice in a forward pass: its "
                    "chain cannot be run block by block"
                )
            hidden = self._hidden(position, args, kwargs)
            marks = {id(value): Handed(k) for k, value in enumerate(self.handed)} | {id(hidden): Handed(0)}
            marked = tuple(marks.get(id(value), value) for value in args)
            self.calls.append(Entry(marked, {name: marks.get(id(value), value) for name, value in kwargs.items()}))
            if position == len(self.chain) - 1:
                raise _Stop
            self.handed = (hidden.view_as(hidden), *(hidden.new_zeros(()) for _ in range((self.returned or 1) - 1)))
            return self.handed[0] if self.returned is None else self.handed

        return forward

    def _hidden(self, position: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The first tensor of numbers enters the first block; the others must get the one handed on, in that place."""
        places: dict[int | str, Any] = dict(enumerate(args)) | dict(kwargs)
        name = self.chain.blocks[position]
        if position == 0:
            floats = (k for k, v in places.items() if isinstance(v, Tensor) and v.is_floating_point() and v.dim() > 1)
            place = next(floats, None)
            if place is None:
                raise SecateursError(f"{name} is called without a hidden state")
            self.place = place
            self.first = places[place]
        hidden = places.get(self.place)
        if not isinstance(hidden, Tensor) or (position and not _same(hidden, self.handed[0])):
            raise _Broken(f"{name} is not called with what the block before returns")
        return hidden


def _given(value: Any, state: State) -> Any:
    if not isinstance(value, Handed):
        return value
    return state[value.position] if value.position < len(state) else None


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other))


def _idle(hidden: Tensor, returned: int | None) -> Callable[..., Any]:
    """A block of a chain that has run: it returns what the chain's last one did."""
    out = hidden if returned is None else (hidden, *(hidden.new_zeros(()) for _ in range(returned - 1)))
    return lambda *args, **kwargs: out


@contextmanager
def _acting(acts: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Blocks whose ``forward`` is another one while the body runs; everything else about them stays."""
    kept = {block: vars(block).get("forward") for block in acts}
    try:
        for block, act in acts.items():
            vars(block)["forward"] = act
        yield
    finally:
        for block, forward in kept.items():
            if forward is None:
                vars(block).pop("forward", None)
            else:
                vars(block)["forward"] = forward


@contextmanager
def _without_cache(model: nn.Module, inputs: Inputs) -> Iterator[Inputs]:
    """The inputs, with the cache of generation off: in every config, as a decoder may have its own, and by word."""
    held = {id(config): config for it in model.modules() if (config := getattr(it, "config", None)) is not None}
    before = [(config, config.use_cache) for config in held.values() if getattr(config, "use_cache", None) is not None]
    takes = "use_cache" in signature(model.forward).parameters
    try:
        for config, _ in before:
            config.use_cache = False
        yield {**inputs, "use_cache": False} if takes and isinstance(inputs, Mapping) else inputs
    finally:
        for config, value in before:
            config.use_cache = value
