"""A network larger than memory, pruned block by block: each is read, settled on what those before it give, written.

It is the pass of ``sequential`` over the whole network, cut at the blocks: the weights become the same, bit for bit.
Peak memory is one block and what it works on; with a shelf, the calibration batches lie on disk while they wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from secateurs.blocks import Calls, Chain, State, entries
from secateurs.sequential import plain, settle_
from secateurs.settling import Settling, holders
from secateurs.shelf import Fetch, Shelf
from secateurs.types import Inputs, SecateursError

logger = logging.getLogger("secateurs.stream")

Opened = Callable[[str], AbstractContextManager[bool]]
"""Opens a block by its name: while it is open its tensors are in place. True: it is still to be settled."""


@dataclass
class _Batch:
    """How far one calibration batch has come."""

    calls: Calls
    state: State
    shelf: Shelf | None
    away: list[Fetch] = field(default_factory=list)

    def here(self) -> State:
        """What the block before returned, in memory."""
        while self.away:
            self.away.pop()()
        return self.state

    def step(self, position: int, block: nn.Module) -> None:
        """Run one block."""
        self.state = self.calls.step(position, block, self.here())
        if self.shelf is not None:
            self.away = [self.shelf.away(it) for it in self.state if isinstance(it, Tensor)]


def settle_blocks_(
    network: nn.Module,
    chains: Sequence[Chain],
    batches: Sequence[Inputs],
    settling: Settling,
    opened: Opened,
    shelf: Shelf | None = None,
) -> None:
    """Settle the weights of a network, block by block.

    Args:
        network: In evaluation mode. What lies outside of the chains, and runs before their last block, is in place.
        chains: Its chains, in the order in which they run.
        batches: Calibration batches, as the network's forward takes them.
        settling: What becomes of a weight.
        opened: Puts the tensors of a block in place, and away again when it is done.
        shelf: Where batches are laid while they wait; None: they stay in memory.

    Raises:
        SecateursError: As ``entries``, ``plain`` and ``Settling``.
    """
    if settling.recipe.compensate:
        raise SecateursError("recipe: compensate needs the dense network beside the other; block by block leave it out")
    before: list[list[tuple[Calls, Tensor]]] = [[] for _ in batches]
    seen: set[Hashable] = set()
    for chain in chains:
        going: list[_Batch] = []
        for inputs, done in zip(batches, before, strict=True):
            calls = entries(network, chain, inputs, done)
            going.append(_Batch(replace(calls, first=calls.first.new_empty(0)), (calls.first,), shelf))
        for position, name in enumerate(chain.blocks):
            logger.info("%s: block %d of %d", chain.name, position + 1, len(chain))
            block = network.get_submodule(name)
            with opened(name) as unsettled, torch.no_grad():
                held = holders(network, [weight for weight in settling.groups if weight.startswith(f"{name}.")])
                if not unsettled or not held:
                    for batch in going:
                        batch.step(position, block)
                    continue
                alike = (type(block), *((weight.removeprefix(name), held[weight][1].shape) for weight in held))
                if alike not in seen:
                    plain(held, partial(going[0].calls.step, position, block, going[0].here()))
                    seen.add(alike)
                steps = [partial(batch.step, position, block) for batch in going]
                modules = {weight: module for weight, (module, _) in held.items()}
                settle_(modules, steps, settling, gram=settling.recipe.solver is not None, shelf=shelf)
        for batch, done in zip(going, before, strict=True):
            done.append((batch.calls, batch.here()[0]))
    settling.warn()
