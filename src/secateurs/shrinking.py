"""What becomes of each block of a checkpoint that is made smaller: scored, chosen, cut out, proven, healed, written."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from secateurs import evidence, surgery
from secateurs.biases import lacking
from secateurs.blockwise import Blockwise
from secateurs.checkpoint import Writer
from secateurs.choosing import Latest, choose
from secateurs.deploy import Transformers
from secateurs.deploy.config import Search
from secateurs.graph.agreement import Reference, reference
from secateurs.graph.statistics import passing
from secateurs.recipe import Recipe
from secateurs.recoveries.nothing import Nothing
from secateurs.repair import Biased
from secateurs.select import select
from secateurs.shelf import tidy
from secateurs.smaller import At, Called, Smaller, brief, visited
from secateurs.stream import Going
from secateurs.types import Counts, Group, Plan, Task

logger = logging.getLogger("secateurs.shrinking")


@dataclass
class Shrinking:
    """A checkpoint, and what is to go of it.

    Args:
        disk: At work.
        recipe: How.
        groups: All that can go.
        inside: Name of a block -> those of them whose units lie in it.
        counts: What is kept of each block of each group.
        build: Of the dense network.
        added: Layers that are given a bias.
        plan: Which layers stay; of dims, whose sizes alone matter here, the first units of each block.
    """

    disk: Blockwise
    recipe: Recipe
    groups: Sequence[Group]
    inside: Mapping[str, Sequence[Group]]
    counts: Counts
    build: Transformers
    added: tuple[Biased, ...] = field(init=False)
    plan: Plan = field(init=False)

    def __post_init__(self) -> None:
        adds = getattr(self.recipe.recovery, "adds_bias", False)
        self.added = lacking(self.disk.network, self.groups) if adds else ()
        self.plan = Plan({it.name: torch.arange(it.n_units) % it.block < self.counts[it.name] for it in self.groups})

    def search(self, plan: Plan) -> Search:
        """The configs that say these sizes.

        Raises:
            SecateursError: There is none.
        """
        outline = surgery.outlined(self.disk.network, self.groups, plan, self.disk.traced, self.added)
        search = Search.of(outline, self.build)
        if next(search.fits(), None) is None:
            raise search.refusal()
        return search

    def layers(self, writer: Writer) -> Plan:
        """Which blocks stay, where they can go: found in a pass of its own, and remembered."""
        chains = [group for group in self.groups if group.residuals]
        keep = writer.remembered("layers") if chains else {}
        if keep is None:
            scores = {group.name: torch.zeros(group.n_units) for group in chains}
            for at in visited(self.disk, self.disk.batches if self.recipe.calibrated else ()):
                logger.info("%s: scored", at.name)
                for group in chains:
                    for unit in (i for i, it in enumerate(group.residuals) if it.name == at.name):
                        scores[group.name][unit] = self._scored(at, [_alone(group, unit)], at.going)[0][group.name]
            keep = {name: kept.tolist() for name, kept in select(chains, scores, self.counts).keep.items()}
            writer.remember("layers", keep)
        return Plan({name: torch.tensor(kept) for name, kept in keep.items()})

    def write(self, writer: Writer, search: Search) -> Smaller:
        """The pass that decides on each block, and writes it.

        Args:
            writer: Which blocks are finished it knows.
            search: For the config of what is written.
        """
        for name in self.disk.rest:
            if name not in writer.finished:
                writer.write(name, dict(self.disk.source.each(name)))
        candidates = self._candidates(writer, search)
        smaller = next(candidates)
        gone = set(self.disk.blocks) - smaller.blocks.keys()
        if set(smaller.blocks) <= set(writer.finished):
            return smaller
        first, looks = smaller.disk.batches[0], self.recipe.calibrated and bool(self.inside)
        batches = self.disk.batches[: None if looks else len(smaller.disk.batches) - 1]
        for at in visited(self.disk, (first, *batches)):
            if not at.position:
                smaller.enter(at)
            if at.name in gone:
                continue
            logger.info("%s", at.name)
            if at.name in writer.finished:
                smaller.written(at, writer)
                continue
            smaller = self._made(at, smaller, candidates, search)
            if not writer.remembered("config"):
                writer.remember("config", smaller.changes)
            writer.write(at.name, smaller.state(at))
            smaller.on(at)
            smaller.away_(at)
            tidy()
        return smaller

    def _candidates(self, writer: Writer, search: Search) -> Iterator[Smaller]:
        """The networks that may be what is wanted; the one that was proven in an earlier run alone."""
        known = writer.remembered("config")
        configs: Iterable[Mapping[str, Any]] = search.fits() if known is None else [{**self.build.config, **known}]
        heals, drifts = (getattr(self.recipe.recovery, what, 0) for what in ("batches", "drifts"))
        disk = replace(self.disk, batches=(brief(self.disk.batches[0]), *self.disk.batches[:heals]))
        for config in configs:
            changes = {key: value for key, value in config.items() if self.build.config.get(key) != value}
            yield Smaller.of(disk, search.model, changes, drifts=bool(drifts))

    def _made(self, at: At, smaller: Smaller, candidates: Iterator[Smaller], search: Search) -> Smaller:
        """The block as it is to be written, in place in the network whose config was proven."""
        groups = self.inside.get(at.name, ())
        plan = self._decided(at, groups)
        at.look()
        wanted = self._wanted(at, groups, plan)
        tensors = self._cut(at, groups, plan)
        smaller.put_(at, tensors)
        while problem := smaller.problem(at, wanted):
            following = None if smaller.proven else next(candidates, None)
            if following is None:
                raise search.refusal(f"{problem}, at {at.name}")
            smaller = following
            smaller.enter(at)
            smaller.put_(at, tensors)
        smaller.proven = True
        if self.recipe.recovery != Nothing():
            smaller.heal_(at, self.recipe.recovery)
        return smaller

    def _decided(self, at: At, groups: Sequence[Group]) -> Plan:
        if not groups:
            return Plan({})
        scores, facts = self._scored(at, groups, at.going[1:])
        return choose(self.recipe.chooser, self.disk.network, groups, (scores, self.counts), facts)

    def _scored(self, at: At, groups: Sequence[Group], batches: Sequence[Going]) -> tuple[Mapping[str, Tensor], Latest]:
        """What units of a block are worth, and what is known of it."""

        def loss(network: nn.Module, going: Any) -> Tensor:
            going.look(at.position, at.block)
            return torch.zeros(())

        unknown = cast(Any, None)
        task = Task(at.name, {}, {"train": batches}, loss, unknown, unknown)
        network, needs = self.disk.network, self.recipe.needs
        facts = Latest(evidence.facts(network, task, needs, len(batches), groups))
        tensors = evidence.named_tensors(network)
        return evidence.scored(tensors, groups, self.recipe.criterion, facts), facts

    def _wanted(self, at: At, groups: Sequence[Group], plan: Plan) -> Reference:
        """What the block gives without what goes, for the batch that proves it."""
        every = evidence.named_tensors(self.disk.network)
        held = {name: tensor for name, tensor in every.items() if _in(name, at.name)}
        masks = {held[name]: mask for name, mask in surgery.masks_of(held, groups, plan).items()}
        axes = {name: it for name, it in self.disk.traced.tensors.items() if _in(name, at.name)}
        traced = replace(self.disk.traced, tensors={f"block{n.removeprefix(at.name)}": it for n, it in axes.items()})
        inputs = at.going[0].calls.arguments(at.position, at.going[0].here())
        found = reference(Called(at.block), inputs, passing(traced, groups, plan), masks)
        at.going[0].lay()
        return found

    def _cut(self, at: At, groups: Sequence[Group], plan: Plan) -> dict[str, Tensor]:
        """What stays of each tensor of the block; the dense ones go, unless the block is healed beside them."""
        kept, heals = surgery.positions(self.disk.network, groups, plan), self.recipe.recovery != Nothing()
        tensors = evidence.named_tensors(self.disk.network)
        cut: dict[str, Tensor] = {}
        for name in self.disk.source.names(at.name):
            tensor = tensors.pop(name).detach()
            left = tensor.clone() if heals else tensor
            for axis in (axis for axis in range(tensor.dim()) if (name, axis) in kept):
                left = left.index_select(axis, kept[name, axis].to(left.device))
            cut[name] = left
            if not heals:
                self.disk.source.release_(self.disk.network, name)
        return cut


def _alone(group: Group, unit: int) -> Group:
    """One layer of a group."""
    members = tuple(replace(it, unit=0) for it in group.members if it.unit == unit)
    return replace(group, n_units=1, block=1, members=members, residuals=group.residuals[unit : unit + 1])


def _in(name: str, block: str) -> bool:
    return name.startswith(f"{block}.")
