"""A checkpoint's network without its weights, of which a job has one block at a time in memory."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from secateurs.blocks import Chain, chains, outside
from secateurs.checkpoint import Checkpoint
from secateurs.checkpoint.ahead import Ahead
from secateurs.checkpoint.in_turn import in_turn
from secateurs.evidence import check_finite
from secateurs.graph import Graph, trace
from secateurs.graph.weightless import UnknownValueError
from secateurs.measures.instruments.forward import prepared
from secateurs.recipe import Recipe
from secateurs.shelf import Shelf, waiting_room
from secateurs.types import Inputs, SecateursError

logger = logging.getLogger("secateurs.blockwise")

READ_IN_TURN = frozenset({"cpu"})
"""Kinds of devices for which no block is read ahead: it would lie in the memory that the one at work needs."""


@dataclass(frozen=True)
class Blockwise:
    """What the passes of a job have in common.

    Args:
        source: What is read.
        network: In evaluation mode, on the meta device but for what is in place.
        traced: What it is made of.
        chains: Its chains, in the order in which they run.
        batches: Calibration batches, as its forward takes them.
        load_: Puts a block in place.
        shelf: Where batches are laid while they wait; None: they stay in memory.
    """

    source: Checkpoint
    network: nn.Module
    traced: Graph
    chains: Sequence[Chain]
    batches: Sequence[Inputs]
    load_: Callable[[nn.Module, str], None]
    shelf: Shelf | None = None

    @classmethod
    def of(cls, source: Checkpoint, batches: Sequence[Inputs]) -> Blockwise:
        """Trace the network; no weight is read, unless its forward pass looks at values: then all are, in turn.

        Raises:
            SecateursError: There is no batch, or no chain of blocks.
        """
        if not batches:
            raise SecateursError("no calibration batch; give at least one")
        network, inputs = source.empty(), prepared(batches[0], torch.device("cpu"))
        try:
            traced = trace(network, inputs)
            found = chains(network)
        except UnknownValueError as error:
            logger.info("%s; all weights are read once to trace it", error)
            found = chains(network)
            blocks = [name for chain in found for name in chain.blocks]
            with in_turn(source, network, blocks, outside(network, found)):
                traced = trace(network, inputs)
        return cls(source, network, traced, found, batches, source.load_)

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """Names of all of them, in the order in which they run."""
        return tuple(name for chain in self.chains for name in chain.blocks)

    @cached_property
    def rest(self) -> tuple[str, ...]:
        """Names of the tensors that lie in no block."""
        return outside(self.network, self.chains)

    @cached_property
    def device(self) -> torch.device:
        """Where the tensors of the batches are: there the work is done."""
        found = (leaf.device for leaf in tree_leaves(list(self.batches)) if isinstance(leaf, Tensor))
        return next(found, torch.device("cpu"))

    def about(self, recipe: Recipe, sparsity: float) -> dict[str, Any]:
        """What tells a job from others with the same source."""
        return {
            "recipe": recipe.to_dict(),
            "sparsity": sparsity,
            "calibration": _digest(self.batches if recipe.uses_data else ()),
            "matmul": torch.get_float32_matmul_precision(),
        }

    @contextmanager
    def at_work(self, shelf: str | Path | None, output: Path) -> Iterator[tuple[Blockwise, Path]]:
        """The same, reading ahead where that helps, with a shelf where one is given; and a directory for what waits.

        Args:
            shelf: An existing directory; None: batches wait in memory.
            output: What the job makes.

        Raises:
            SecateursError: The shelf cannot be written.
        """
        with waiting_room(shelf, output) as waiting, _reading(self.source, self.blocks, self.device) as load_:
            move_buffers_(self.network, self.device)
            yield replace(self, load_=load_, shelf=Shelf(waiting) if shelf else None), waiting

    @contextmanager
    def around(self) -> Iterator[None]:
        """While open, what lies outside of the blocks is in place."""
        self.source.load_(self.network, *self.rest, device=self.device)
        check_finite({name: tensor for name, tensor in self.network.named_parameters() if not tensor.is_meta})
        yield
        self.source.release_(self.network, *self.rest)

    @contextmanager
    def dense(self, block: str) -> Iterator[bool]:
        """While open, a block is in place as it was read; True, as it is still to be worked on."""
        self.put_(block)
        yield True
        self.source.release_(self.network, block)

    def put_(self, block: str) -> None:
        """Put a block in place.

        Raises:
            SecateursError: A weight of it is not finite.
        """
        self.load_(self.network, block)
        check_finite(dict(self.network.get_submodule(block).named_parameters(prefix=block)))


def check_rounds(recipe: Recipe, sparsity: float) -> None:
    """Refuse a recipe of several rounds: a block that is written is done.

    Raises:
        SecateursError: It has.
    """
    rounds = len(recipe.schedule(sparsity))
    if rounds > 1:
        raise SecateursError(f"recipe: block by block there is one round, and the schedule has {rounds}; use one_shot")


def move_buffers_(network: nn.Module, device: torch.device) -> None:
    """Those that are computed, not stored: tables of positions."""
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)


@contextmanager
def _reading(
    source: Checkpoint, blocks: Sequence[str], device: torch.device
) -> Iterator[Callable[[nn.Module, str], None]]:
    """What puts a block in place."""
    if device.type in READ_IN_TURN:
        yield source.load_
        return
    with Ahead(source, blocks, device) as ahead:
        yield ahead.load_


def _digest(batches: Sequence[Inputs]) -> str:
    digest = hashlib.sha256()
    for leaf in tree_leaves(list(batches)):
        digest.update(leaf.detach().cpu().numpy().tobytes() if isinstance(leaf, Tensor) else repr(leaf).encode())
    return digest.hexdigest()
