"""A checkpoint on disk pruned to another one, with no more than one of its blocks in memory."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from secateurs.blocks import Chain, chains, outside
from secateurs.checkpoint import Checkpoint, Writer
from secateurs.checkpoint.ahead import Ahead
from secateurs.evidence import check_finite
from secateurs.graph import trace
from secateurs.graph.weightless import UnknownValueError
from secateurs.measures.instruments.forward import prepared
from secateurs.multiplied import Multiplied, Stacked
from secateurs.recipe import Recipe
from secateurs.recoveries.nothing import Nothing
from secateurs.settling import Later, Settling, single_weights
from secateurs.shelf import Laid, Shelf, tidy, waiting_room
from secateurs.stream import Stream
from secateurs.types import Group, Inputs, Scores, SecateursError, few

logger = logging.getLogger("secateurs.on_disk")

ROOM = 32 << 20
"""Bytes of activations that wait in memory before others wait on the shelf."""
READ_IN_TURN = frozenset({"cpu"})
"""Kinds of devices for which no block is read ahead: it would lie in the memory that the one at work needs."""


@dataclass(frozen=True)
class Written:
    """A checkpoint that was pruned block by block.

    Args:
        directory: A plain transformers directory.
        zeros: Name of a weight -> how many of its entries are zero.
        entries: Name of a weight -> how many it has.
        before: How many blocks an interrupted run had written already.
        left: Weights that stay as they are: those that the structures name but that lie in no block, and matrices of
            the blocks that the structures do not name.
    """

    directory: Path
    zeros: Mapping[str, int]
    entries: Mapping[str, int]
    before: int = 0
    left: tuple[str, ...] = ()

    @property
    def dense(self) -> tuple[str, ...]:
        """These, and the weights that were to be pruned and lost nothing."""
        return (*self.left, *(name for name, zeros in self.zeros.items() if not zeros))

    @property
    def sparsity(self) -> float:
        """Of all these weights together."""
        return sum(self.zeros.values()) / sum(self.entries.values())


@dataclass(frozen=True)
class _Job:
    """What the passes of a job have in common; where nothing looks at activations, nothing is computed."""

    source: Checkpoint
    network: nn.Module
    chains: Sequence[Chain]
    rest: Sequence[str]
    batches: Sequence[Inputs]
    shelf: Shelf | None
    load_: Callable[[nn.Module, str], None]
    calibrated: bool

    @cached_property
    def device(self) -> torch.device:
        return _device(self.batches)

    def run(
        self, weights: Mapping[str, Group], settle: Callable[[str, Multiplied | Stacked | None], object], gram: bool
    ) -> None:
        """One pass over the dense network."""
        self._pass(self._dense, weights, settle, gram)

    def write(self, settling: Settling, writer: Writer) -> None:
        """One pass that settles the blocks, and writes each when it is settled."""
        for name in self.rest:
            if name not in writer.finished:
                tensors = dict(self.source.each(name))
                check_finite(tensors)
                writer.write(name, tensors)
        gram = settling.recipe.solver is not None
        opened = partial(self._written, settling, writer)
        self._pass(opened, settling.groups, settling, gram, settling.recipe.compensate)
        settling.warn()

    def _pass(self, opened: Any, weights: Mapping[str, Group], settle: Any, gram: bool, twins: bool = False) -> None:
        if not self.calibrated:
            for block in (name for chain in self.chains for name in chain.blocks):
                logger.info("%s", block)
                with opened(block) as unsettled:
                    for name in weights if unsettled else ():
                        if name.startswith(f"{block}."):
                            settle(name, None)
                tidy()
            return
        dense = self._dense if twins else None
        stream = Stream(self.network, self.chains, self._around, opened, self.shelf, dense)
        stream.settle_(self.batches, weights, settle, gram=gram)

    @contextmanager
    def _around(self) -> Iterator[None]:
        self.source.load_(self.network, *self.rest, device=self.device)
        check_finite({name: tensor for name, tensor in self.network.named_parameters() if not tensor.is_meta})
        yield
        self.source.release_(self.network, *self.rest)

    @contextmanager
    def _dense(self, block: str) -> Iterator[bool]:
        self._put(block)
        yield True
        self.source.release_(self.network, block)

    def _put(self, block: str) -> None:
        self.load_(self.network, block)
        check_finite(dict(self.network.get_submodule(block).named_parameters(prefix=block)))

    @contextmanager
    def _written(self, settling: Settling, writer: Writer, block: str) -> Iterator[bool]:
        settled = block in writer.finished
        if settled:
            writer.load_(block, self.network, device=self.device)
        else:
            self._put(block)
        yield not settled
        if not settled:
            held = {name: self.network.get_parameter(name) for name in settling.groups if name.startswith(f"{block}.")}
            zeros = {name: int((weight == 0).sum()) for name, weight in held.items()}
            tensors = dict(self.network.state_dict(keep_vars=True))
            writer.write(block, {name: tensors[name] for name in self.source.names(block)}, zeros)
        self.source.release_(self.network, block)


def prune_checkpoint(
    source: Checkpoint,
    batches: Sequence[Inputs],
    recipe: Recipe,
    sparsity: float,
    directory: str | Path,
    shelf: str | Path | None = None,
) -> Written:
    """Prune a checkpoint to a plain transformers directory.

    Interrupted at any moment, the same call goes on after the last block that was written, to the same files. An
    allocation that looks at scores costs a pass over the dense network before; its scores lie on disk.

    Args:
        source: What to prune.
        batches: Calibration batches, as the network's forward takes them; the first one traces it, and a recipe that is
            not calibrated needs no other. Where their tensors are, the work is done; elsewhere than on the CPU the next
            block is read meanwhile.
        recipe: Of single weights, ``sequential``, in one round, not healed.
        sparsity: Fraction removed, in the currency of the recipe's allocation, in (0, 1).
        directory: What to make; must not exist.
        shelf: An existing directory on a disk with room, where batches are laid while they wait; None: in memory.

    Raises:
        SecateursError: The recipe asks for what cannot be done block by block; no weight lies inside of a block;
            what ``chains``, ``Stream.settle_``, ``Settling`` and ``Writer`` refuse.
    """
    check(recipe, sparsity)
    if not batches:
        raise SecateursError("no calibration batch; give at least one")
    network = source.empty()
    try:
        traced = trace(network, prepared(batches[0], torch.device("cpu")))
    except UnknownValueError as error:
        raise SecateursError(f"{error}; `secateurs prune` has all weights in memory, and takes this recipe") from error
    found = chains(network)
    blocks = tuple(name for chain in found for name in chain.blocks)
    named = [group for structure in recipe.structure for group in structure(traced)]
    rest = outside(network, found)
    groups, left = _inside(named, network, rest)
    settling = Settling.of(network, traced, groups, recipe)
    with waiting_room(shelf, Path(directory)) as waiting, _reading(source, blocks, _device(batches)) as load_:
        laid = Shelf(waiting, ROOM) if shelf else None
        job = _Job(source, network, found, rest, batches, laid, load_, recipe.calibrated)
        _move_buffers_(network, job.device)
        about = {
            "recipe": recipe.to_dict(),
            "sparsity": sparsity,
            "calibration": _digest(batches if recipe.calibrated else ()),
            "matmul": torch.get_float32_matmul_precision(),
        }
        writer = Writer(directory, source, (*rest, *blocks), about)
        before = len(set(blocks) & set(writer.finished))
        price = traced.price(groups, recipe.allocation.currency)
        scores = Later(partial(_dense_scores, job, settling, waiting))
        with writer.given_up_unless(blocks):
            settling.counts = recipe.allocation(groups, scores, sparsity, price)
            job.write(settling, writer)
        zeros = {name: count for note in writer.notes.values() for name, count in (note or {}).items()}
        writer.finish()
    entries = {name: group.n_units for name, group in settling.groups.items()}
    return Written(Path(directory), zeros, entries, before, left)


def check(recipe: Recipe, sparsity: float) -> None:
    """Refuse a recipe that cannot be carried out block by block.

    Raises:
        SecateursError: It is not ``sequential``, has several rounds, heals, or does not fit the sparsity.
    """
    recipe.check(sparsity)
    if not recipe.sequential:
        raise SecateursError(
            "recipe: block by block single weights are settled one after the other; take a recipe with sequential: "
            "true, or `secateurs prune`, which makes the network smaller"
        )
    rounds = len(recipe.schedule(sparsity))
    if rounds > 1:
        raise SecateursError(f"recipe: block by block there is one round, and the schedule has {rounds}; use one_shot")
    if "gradient" in recipe.criterion.needs:
        raise SecateursError("recipe: the criterion needs gradients, which block by block there are none; use wanda")
    if recipe.recovery != Nothing():
        raise SecateursError("recipe: block by block nothing is healed; use recovery: nothing")


def _inside(groups: Iterable[Group], network: nn.Module, apart: Collection[str]) -> tuple[list[Group], tuple[str, ...]]:
    """The groups of weights that lie in blocks, and the names of what stays dense: other weights, other matrices."""
    weights = single_weights(groups)
    outside = [name for name in weights if name in apart]
    if len(outside) == len(weights):
        raise SecateursError("the recipe names no weight of the blocks, and block by block those alone are pruned")
    matrices = [name for name, parameter in network.named_parameters() if parameter.dim() > 1 and name not in apart]
    unnamed = [name for name in matrices if name not in weights]
    if outside:
        logger.warning("%s stays dense, as it lies outside of the blocks", few(outside))
    if unnamed:
        logger.warning("%s stays dense, as the recipe's structures do not name it", few(unnamed))
    return [group for name, group in weights.items() if name not in outside], (*outside, *unnamed)


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


def _device(batches: Sequence[Inputs]) -> torch.device:
    found = (leaf.device for leaf in tree_leaves(list(batches)) if isinstance(leaf, Tensor))
    return next(found, torch.device("cpu"))


def _move_buffers_(network: nn.Module, device: torch.device) -> None:
    """The buffers that are computed, not stored: tables of positions."""
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)


def _dense_scores(job: _Job, settling: Settling, directory: Path) -> Scores:
    """Of the whole dense network, kept on disk."""
    logger.info("the allocation looks at scores: a pass over the dense network first")
    laid = Laid(directory)
    job.run(
        settling.groups, lambda name, multiplied: laid.add(name, settling.scores(name, multiplied).cpu()), gram=False
    )
    for name, group in settling.groups.items():
        if name not in laid:  # no pass can tell what it multiplies: it stays dense, whatever it is given
            laid.add(name, torch.full((group.n_units,), torch.inf))
    return laid


def _digest(batches: Sequence[Inputs]) -> str:
    digest = hashlib.sha256()
    for leaf in tree_leaves(list(batches)):
        digest.update(leaf.detach().cpu().numpy().tobytes() if isinstance(leaf, Tensor) else repr(leaf).encode())
    return digest.hexdigest()
