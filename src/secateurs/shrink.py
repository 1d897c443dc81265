"""A checkpoint on disk made smaller, with no more than about one of its blocks in memory.

One pass over the dense network: what the criterion needs is found of each block as the batches pass it, its units are
chosen, what is left is cut out, proven, healed and written. Where whole blocks go, a pass before says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateurs import surgery
from secateurs.blockwise import Blockwise, check_rounds
from secateurs.checkpoint import Checkpoint, Writer
from secateurs.deploy import Transformers
from secateurs.prune import check_reach, claimed, tell
from secateurs.recipe import Recipe
from secateurs.recipe.recipe import is_even
from secateurs.recoveries.nothing import Nothing
from secateurs.shrinking import Shrinking
from secateurs.types import Group, Inputs, Need, SecateursError, few

OUT_OF_REACH: frozenset[Need] = frozenset({"gradient", "gradient_gram", "loss_increase"})
"""What no pass forward block by block tells."""


@dataclass(frozen=True)
class Shrunken:
    """A checkpoint that was made smaller.

    Args:
        directory: A plain transformers directory.
        parameters: How many there were, and are.
        config: Field -> what it was, and is.
        gone: Names of the blocks that went, in the dense network.
        before: How many blocks an interrupted run had written already.
    """

    directory: Path
    parameters: tuple[int, int]
    config: Mapping[str, tuple[Any, Any]]
    gone: tuple[str, ...] = ()
    before: int = 0


def shrink_checkpoint(
    source: Checkpoint,
    batches: Sequence[Inputs],
    recipe: Recipe,
    sparsity: float,
    directory: str | Path,
    shelf: str | Path | None = None,
) -> Shrunken:
    """Prune a checkpoint to a smaller one, a plain transformers directory of the same class.

    Interrupted at any moment, the same call goes on after the last block that was written, to the same files. Where
    whole blocks go, scoring them costs a pass over the dense network before.

    Args:
        source: What to prune.
        batches: Calibration batches, as the network's forward takes them; the first one traces it and proves what is
            written, and a recipe that is not calibrated needs no other. Where their tensors are, the work is done.
        recipe: Of units inside of blocks, or of whole blocks, the same share of each, in one round.
        sparsity: Fraction removed, in (0, 1).
        directory: What to make; must not exist.
        shelf: An existing directory on a disk with room, where batches are laid while they wait; None: in memory.

    Raises:
        SecateursError: The recipe asks for what cannot be done block by block, or for what no config says; what
            ``Blockwise``, the parts of the recipe and ``Writer`` refuse.
    """
    check(recipe, sparsity)
    disk = Blockwise.of(source, batches)
    groups = claimed(recipe.structure, disk.traced)
    inside = _inside(groups, disk.blocks, recipe)
    tell(recipe.structure, groups, disk.traced)
    price = disk.traced.price(groups, recipe.allocation.currency)
    check_reach(recipe, groups, sparsity, price)
    nothing = {group.name: torch.zeros(()).expand(group.n_units) for group in groups}
    counts = recipe.allocation(groups, nothing, sparsity, price)
    build = Transformers.of(source.model)
    with disk.at_work(shelf, Path(directory)) as (disk, _):
        job = Shrinking(disk, recipe, groups, inside, counts, build)
        search = job.search(job.plan)
        writer = Writer(directory, source, (*disk.rest, *disk.blocks), disk.about(recipe, sparsity))
        with writer.given_up_unless(disk.blocks):
            plan = job.plan = replace(job.plan, keep={**job.plan.keep, **job.layers(writer).keep})
            gone = tuple(it.name for it in surgery.dropped_residuals(groups, plan))
            writer.leave_out(gone)
            before = len(set(disk.blocks) & set(writer.finished))
            smaller = job.write(writer, job.search(plan) if gone else search)
        writer.finish(smaller.changes)
    config = {name: (build.config.get(name), value) for name, value in smaller.changes.items()}
    sizes = _size(disk.network), _size(smaller.disk.network)
    return Shrunken(Path(directory), sizes, config, gone, before)


def check(recipe: Recipe, sparsity: float) -> None:
    """Refuse a recipe that cannot be carried out block by block, or whose result no config would say.

    Raises:
        SecateursError: It is ``sequential``, turns dims, has several rounds, needs gradients or the loss, heals by
            training, takes other shares from other layers, or does not fit the sparsity.
    """
    recipe.check(sparsity)
    whole = "or `secateurs prune`, which has the whole network in memory"
    if recipe.sequential:
        raise SecateursError(
            "recipe: sequential settles single weights, and nothing gets smaller; `secateurs sparsify` takes it"
        )
    if recipe.basis is not None:
        raise SecateursError(f"recipe: a basis turns dims of all blocks together; take a recipe without one, {whole}")
    check_rounds(recipe, sparsity)
    needed = sorted(recipe.needs & OUT_OF_REACH)
    if needed:
        raise SecateursError(
            f"recipe: {needed[0].replace('_', ' ')} is needed, and block by block there is none; take a criterion such "
            f"as fluctuation, obs or block_influence, {whole}"
        )
    if recipe.recovery != Nothing() and not hasattr(recipe.recovery, "drifts"):
        raise SecateursError(
            f"recipe: block by block nothing is trained; use recovery: nothing, bias or reconstruct, {whole}"
        )
    if not is_even(recipe.allocation, sparsity):
        raise SecateursError(
            "recipe: a config has one size for all layers, and this allocation takes more from some; use allocation: "
            f"uniform, {whole}"
        )


def _inside(groups: Sequence[Group], blocks: Sequence[str], recipe: Recipe) -> dict[str, list[Group]]:
    """The groups of units that lie in each block."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        if not group.removable:
            raise SecateursError(
                f"{group.name} is of single weights, which no config can leave out; `secateurs sparsify` makes them "
                "zero, by a recipe that is sequential"
            )
        if group.residuals and recipe.recovery != Nothing():
            raise SecateursError(
                "recipe: block by block nothing mends where whole blocks went; use recovery: nothing, as shortgpt, or "
                "`secateurs prune`"
            )
        if group.residuals and not {it.name for it in group.residuals} <= set(blocks):
            raise SecateursError(f"{group.name} is not of whole blocks, and no config leaves out less; use of: block")
        if group.dims:
            names = sorted({member.tensor for member in group.members})
            at = [block for block in blocks if any(name.startswith(f"{block}.") for name in names)]
            if len(at) != 1 or not all(name.startswith(f"{at[0]}.") for name in names):
                raise SecateursError(
                    f"{group.name} reaches through {few(names)}, and only what lies inside of one block can go block "
                    "by block; keep it, or leave it to `secateurs prune`, which has the whole network in memory"
                )
            found.setdefault(at[0], []).append(group)
    return found


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
