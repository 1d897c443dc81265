"""A checkpoint on disk pruned to another one, with no more than one of its blocks in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateurs.blockwise import Blockwise, check_rounds
from secateurs.checkpoint import Checkpoint, Writer
from secateurs.evidence import check_finite
from secateurs.multiplied import Multiplied, Stacked
from secateurs.recipe import Recipe
from secateurs.recoveries.nothing import Nothing
from secateurs.settling import Later, Settling, single_weights
from secateurs.shelf import Laid, tidy
from secateurs.stream import Stream
from secateurs.types import Group, Inputs, Scores, SecateursError, few

logger = logging.getLogger("secateurs.on_disk")


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
    """The passes of a job; where nothing looks at activations, nothing is computed."""

    disk: Blockwise
    calibrated: bool

    def run(
        self, weights: Mapping[str, Group], settle: Callable[[str, Multiplied | Stacked | None], object], gram: bool
    ) -> None:
        """One pass over the dense network."""
        self._pass(self.disk.dense, weights, settle, gram)

    def write(self, settling: Settling, writer: Writer) -> None:
        """One pass that settles the blocks, and writes each when it is settled."""
        for name in self.disk.rest:
            if name not in writer.finished:
                tensors = dict(self.disk.source.each(name))
                check_finite(tensors)
                writer.write(name, tensors)
        gram = settling.recipe.solver is not None
        opened = partial(self._written, settling, writer)
        self._pass(opened, settling.groups, settling, gram, settling.recipe.compensate)
        settling.warn()

    def _pass(self, opened: Any, weights: Mapping[str, Group], settle: Any, gram: bool, twins: bool = False) -> None:
        disk = self.disk
        if not self.calibrated:
            for block in disk.blocks:
                logger.info("%s", block)
                with opened(block) as unsettled:
                    for name in weights if unsettled else ():
                        if name.startswith(f"{block}."):
                            settle(name, None)
                tidy()
            return
        dense = disk.dense if twins else None
        stream = Stream(disk.network, disk.chains, disk.around, opened, disk.shelf, dense)
        stream.settle_(disk.batches, weights, settle, gram=gram)

    @contextmanager
    def _written(self, settling: Settling, writer: Writer, block: str) -> Iterator[bool]:
        source, network = self.disk.source, self.disk.network
        settled = block in writer.finished
        if settled:
            writer.load_(block, network, device=self.disk.device)
        else:
            self.disk.put_(block)
        yield not settled
        if not settled:
            held = {name: network.get_parameter(name) for name in settling.groups if name.startswith(f"{block}.")}
            zeros = {name: int((weight == 0).sum()) for name, weight in held.items()}
            tensors = dict(network.state_dict(keep_vars=True))
            writer.write(block, {name: tensors[name] for name in source.names(block)}, zeros)
        source.release_(network, block)


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
    disk = Blockwise.of(source, batches)
    network, traced, blocks = disk.network, disk.traced, disk.blocks
    named = [group for structure in recipe.structure for group in structure(traced)]
    groups, left = _inside(named, network, disk.rest)
    settling = Settling.of(network, traced, groups, recipe)
    with disk.at_work(shelf, Path(directory)) as (disk, waiting):
        job = _Job(disk, recipe.calibrated)
        writer = Writer(directory, source, (*disk.rest, *blocks), disk.about(recipe, sparsity))
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
            "true, or `secateurs shrink`, which makes the network smaller"
        )
    check_rounds(recipe, sparsity)
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
