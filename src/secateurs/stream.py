"""One pass through a network block by block: each is put in place, settled on what those before it give, put away.

It is the pass of ``sequential`` over the whole network, cut at the blocks: the weights become the same, bit for bit.
Peak memory is one block and what it works on; with a shelf, the calibration batches lie on disk while they wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from secateurs.blocks import Before, Calls, Chain, State, entries
from secateurs.operands import Holder, holders, plain, single
from secateurs.sequential import Settle, settle_
from secateurs.shelf import Fetch, Shelf
from secateurs.twins import Twins, streams
from secateurs.types import Inputs, SecateursError

logger = logging.getLogger("secateurs.stream")

Opened = Callable[[str], AbstractContextManager[bool]]
"""Opens a block by its name: while it is open its tensors are in place. True: it is still to be settled."""


@dataclass
class Going:
    """How far one calibration batch has come.

    Args:
        calls: What the blocks of the chain that it is in are called with.
        state: What the block before returned.
        shelf: Where that waits; None: in memory.
        after: What the next block has returned, where it was run without going on.
    """

    calls: Calls
    state: State
    shelf: Shelf | None
    after: State = ()
    away: list[Fetch] = field(default_factory=list)

    @classmethod
    def into(
        cls, network: nn.Module, chain: Chain, inputs: Inputs, before: Before = (), shelf: Shelf | None = None
    ) -> Going:
        """A batch before the first block of a chain; arguments as ``blocks.entries`` takes them."""
        calls = entries(network, chain, inputs, before)
        going = cls(replace(calls, first=calls.first.new_empty(0)), (calls.first,), shelf)
        going.lay()
        return going

    def here(self) -> State:
        """What the block before returned, in memory."""
        while self.away:
            self.away.pop()()
        return self.state

    def step(self, position: int, block: nn.Module) -> None:
        """Run one block."""
        self.state = self.calls.step(position, block, self.here())
        self.lay()

    def look(self, position: int, block: nn.Module) -> None:
        """Run one block, and stay before it.

        Raises:
            SecateursError: It gives NaN or infinite values.
        """
        with torch.no_grad():
            self.after = self.calls.step(position, block, self.here())
        if not bool(self.after[0].isfinite().all()):
            raise SecateursError(
                f"{self.calls.chain.blocks[position]} gives NaN or infinite activations: the network overflows there; "
                "try float32 or bfloat16, or look at the calibration tokens"
            )
        self.lay()

    def on(self) -> None:
        """Go on to what it returned."""
        self.state, self.after = self.after, ()

    def lay(self) -> None:
        """On the shelf, where there is one, until somebody looks at it."""
        if self.shelf is not None:
            held = (*self.state, *self.after)
            self.away.append(self.shelf.away(it for it in held if isinstance(it, Tensor)))


@dataclass(frozen=True)
class _Kind:
    """What blocks alike have in common: the weights that can be settled, and which module's stream each feeds."""

    plain: frozenset[str]
    streams: Mapping[str, str]

    @classmethod
    def of(
        cls, name: str, block: nn.Module, held: Mapping[str, Holder], once: Callable[[], object], twins: bool
    ) -> _Kind:
        modules = plain(held, once)
        found = streams(single(modules), block.modules(), once) if twins else {}
        names = {module: it for it, module in block.named_modules()}
        at = {weight.removeprefix(name): names[module] for weight, module in found.items()}
        return cls(frozenset(it.removeprefix(name) for it in modules), at)


@dataclass(frozen=True)
class Stream:
    """A network, and how its tensors come and go.

    Args:
        network: In evaluation mode.
        chains: Its chains, in the order in which they run.
        around: Puts what lies outside of the chains in place, and away again when it has run.
        opened: Puts the tensors of a block in place, and away again when it is done.
        shelf: Where batches are laid while they wait; None: they stay in memory.
        dense: Puts the dense tensors of a block that is settled already in place; given, every batch has a twin.
    """

    network: nn.Module
    chains: Sequence[Chain]
    around: Callable[[], AbstractContextManager[object]]
    opened: Opened
    shelf: Shelf | None = None
    dense: Opened | None = None

    def settle_(self, batches: Sequence[Inputs], weights: Collection[str], settle: Settle, *, gram: bool) -> None:
        """Run all batches through all blocks, and settle every weight on the way.

        Args:
            batches: Calibration batches, as the network's forward takes them.
            weights: Names of those to settle; all inside blocks. Those that are not ``plain`` stay as they are.
            settle: Called once for every weight of a block that is to be settled.
            gram: Whether products of input features are wanted, or their squares alone.

        Raises:
            SecateursError: As ``entries``, ``plain`` and ``settle``.
        """
        sides = 1 if self.dense is None else 2
        before: list[list[list[tuple[Calls, Tensor]]]] = [[[] for _ in batches] for _ in range(sides)]
        seen: dict[Hashable, _Kind] = {}
        for chain in self.chains:
            with self.around():
                enter = partial(Going.into, self.network, chain, shelf=self.shelf)
                going = [[enter(*each) for each in zip(batches, done, strict=True)] for done in before]
            for position, name in enumerate(chain.blocks):
                logger.info("%s: block %d of %d", chain.name, position + 1, len(chain))
                block = self.network.get_submodule(name)
                ours, *theirs = ([partial(batch.step, position, block) for batch in side] for side in going)
                with self.opened(name) as unsettled, torch.no_grad():
                    self._spare()
                    held = holders(self.network, [it for it in weights if unsettled and it.startswith(f"{name}.")])
                    alike = (type(block), *((it.removeprefix(name), held[it][1].shape) for it in held))
                    if alike not in seen:
                        once = partial(going[0][0].calls.step, position, block, going[0][0].here())
                        seen[alike] = _Kind.of(name, block, held, once, bool(theirs))
                    kind = seen[alike]
                    witnesses = {f"{name}{it}": block.get_submodule(at) for it, at in kind.streams.items()}
                    steps = Twins(ours, theirs[0], witnesses) if theirs and unsettled else ours
                    modules = {it: held[it][0] for it in held if it.removeprefix(name) in kind.plain}
                    settle_(modules, steps, settle, gram=gram, shelf=self.shelf)
                if self.dense is not None and not unsettled:
                    with self.dense(name), torch.no_grad():
                        self._spare()
                        settle_({}, theirs[0], settle, shelf=self.shelf)
            for side, notes in zip(going, before, strict=True):
                for batch, done in zip(side, notes, strict=True):
                    done.append((batch.calls, batch.here()[0]))

    def _spare(self) -> None:
        if self.shelf is not None:
            self.shelf.spare(self.network)
