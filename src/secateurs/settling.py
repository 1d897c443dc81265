"""What becomes of one weight once it is known what it multiplies: the parts of a recipe, applied to it alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import prod

import torch
from torch import Tensor, nn

from secateurs import evidence, surgery
from secateurs.multiplied import Multiplied, Stacked
from secateurs.operands import holders, plain, single
from secateurs.orders import Order, best_order, orders
from secateurs.recipe import Recipe
from secateurs.select import select, without_dropped
from secateurs.sequential import settle_
from secateurs.stacks import matrices_of
from secateurs.twins import Twins, streams
from secateurs.types import (
    Batch,
    Counts,
    Facts,
    Group,
    Network,
    Plan,
    Scores,
    SecateursError,
    Task,
    Weight,
    few,
)

logger = logging.getLogger("secateurs.settling")


@dataclass(frozen=True)
class _Part:
    """A matrix that is settled: its tensor's name, its units, its values, what it multiplies, how much stays."""

    name: str
    group: Group
    weight: Tensor
    multiplied: Multiplied | None
    count: int
    before: Tensor | None


@dataclass
class Settling:
    """Settles the weights of a network, one at a time: scores, selects or solves, and writes.

    Args:
        network: Its tensors may be on the meta device but for the one that is settled.
        weights: Those of the trace, by name.
        groups: One for each weight that is settled, by the weight's name.
        counts: What is kept of each block of each group.
        recipe: Criterion, and solver where it has one.
        plan: What stayed before; nothing else comes back.
        short: Names of weights that were settled on fewer tokens than they have input features.
        unseen: Names of weights, and of matrices in stacks, that met no token.
        orders: The weights whose features may be put in another order.
        moved: Tensors that were put in another order: name, axis, order.
    """

    network: nn.Module
    weights: Mapping[str, Weight]
    groups: Mapping[str, Group]
    counts: Counts
    recipe: Recipe
    plan: Plan = field(default_factory=lambda: Plan({}))
    short: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    orders: Mapping[str, Order] = field(default_factory=dict)
    moved: list[tuple[str, int, Tensor]] = field(default_factory=list)

    @classmethod
    def of(cls, network: nn.Module, traced: Network, groups: Iterable[Group], recipe: Recipe) -> Settling:
        """Of these groups; counts and plan are still to be given.

        Raises:
            SecateursError: As ``single_weights``; a solver is to choose units of several weights.
        """
        single, weights = single_weights(groups), {weight.name: weight for weight in traced.weights}
        found = orders(traced, single) if recipe.permute else {}
        tiled = [name for name, group in single.items() if not group.grid]
        if recipe.solver is not None and tiled:
            raise SecateursError(f"{tiled[0]}: a solver takes single weights, and its units are several; leave it out")
        return cls(network, weights, single, {}, recipe, orders=found)

    def __call__(self, name: str, multiplied: Multiplied | Stacked | None) -> Tensor:
        """Settle this weight; which of its units stay, ``(n_units,)`` bool.

        Args:
            name: Of the weight.
            multiplied: What it multiplies; None where nothing came to it, or the recipe is not calibrated.

        Raises:
            SecateursError: It, or what it multiplies, holds NaN or infinite values.
        """
        if isinstance(multiplied, Stacked):
            self.unseen += [f"{name}[{i}]" for i, one in enumerate(multiplied.parts) if not one.tokens]
        elif multiplied is None and self.recipe.calibrated:
            self.unseen.append(name)
        if name in self.orders and self.groups[name].name not in self.plan.keep:
            self._reorder_(name, self.orders[name], multiplied)
        return torch.cat([self._settled(part) for part in self._parts(name, multiplied)])

    def _reorder_(self, name: str, order: Order, multiplied: Multiplied | Stacked | None) -> None:
        """Put the features of a weight, and what writes them, in the order in which most is kept."""
        tensors = {member.tensor: self.network.get_parameter(member.tensor) for member in order.members}
        if any(tensor.is_meta for tensor in tensors.values()) or isinstance(multiplied, Stacked):
            return
        group = self.groups[name]
        scores = self.scores(name, multiplied).view(group.grid)
        laid = [scores[:, places.to(scores.device)].transpose(1, 2).flatten(0, 1) for places in order.places]
        best = torch.stack([best_order(rows, group.block, self.counts[group.name]) for rows in laid])
        for tensor, axis, positions in order.moves(best, {key: tuple(it.shape) for key, it in tensors.items()}):
            values = tensors[tensor].detach()
            values.copy_(values.index_select(axis, positions.to(values.device)))
            if tensor == name and multiplied is not None:
                multiplied.reorder_(positions)
            self.moved.append((tensor, axis, positions))

    def _settled(self, part: _Part) -> Tensor:
        group, scores = part.group, self._scored(part)
        if self.recipe.solver is None or part.multiplied is None:
            plan = select([group], {group.name: scores}, {group.name: part.count})
            surgery.mask_tensors_({part.name: part.weight}, [group], plan)
            return plan.keep[group.name]
        (member,) = group.members
        laid = part.weight.permute(member.dims)
        matrix = laid.reshape(-1, len(part.multiplied.norm)).float()
        if part.multiplied.tokens < matrix.shape[1]:
            self.short.append(group.name)
        kept, solved = self.recipe.solver(
            part.multiplied.aim(part.name, matrix),
            part.multiplied.gram,
            scores.to(matrix.device).view_as(matrix),
            group.block,
            part.count,
        )
        laid.copy_(solved.view_as(laid))
        return kept.flatten()

    def _parts(self, name: str, multiplied: Multiplied | Stacked | None) -> Iterator[_Part]:
        """The weight itself; of a stack, each matrix, which is settled alone on the tokens that it meets."""
        group, weight = self.groups[name], self.network.get_parameter(name).detach()
        count, before = self.counts.get(group.name, 0), self.plan.keep.get(group.name)
        if multiplied is None and self.recipe.calibrated:
            features = prod(weight.shape[axis] for axis in self.weights[name].inputs)
            multiplied = Multiplied.even(self.recipe.solver is not None, torch.ones(features, device=weight.device))
        parts: Sequence[Multiplied | None] = (None,) if multiplied is None else multiplied.parts
        if not isinstance(multiplied, Stacked):
            yield _Part(name, group, weight, parts[0], count, before)
            return
        for i, (one, part) in enumerate(zip(parts, matrices_of(group, len(parts)), strict=True)):
            shared = group.block > part.n_units  # all of the stack was to share what is kept: each its part
            mine = (i + 1) * count // len(parts) - i * count // len(parts) if shared else count
            stayed = None if before is None else before[i * part.n_units : (i + 1) * part.n_units]
            yield _Part(name, part, weight[i], one, mine, stayed)

    def warn(self) -> None:
        """Say which weights were settled on too little."""
        if self.unseen:
            alike = "they are settled as if all their inputs were of one size; give more calibration tokens"
            logger.warning("%d weights met no token (%s): %s", len(self.unseen), few(self.unseen), alike)
        if self.short:
            logger.warning(
                "%d weights were settled on fewer tokens than they have input features (%s, ...): their Gram matrices "
                "are singular; give more calibration tokens",
                len(self.short),
                self.short[0],
            )

    def scores(self, name: str, multiplied: Multiplied | Stacked | None) -> Tensor:
        """What its units are worth: ``(n_units,)``; arguments as for a call.

        Raises:
            SecateursError: It, or what it multiplies, holds NaN or infinite values.
        """
        return torch.cat([self._scored(part) for part in self._parts(name, multiplied)])

    def _scored(self, part: _Part) -> Tensor:
        facts = Facts() if part.multiplied is None else self._facts(part, part.multiplied.norm)
        group = part.group
        scores = evidence.scored({part.name: part.weight}, [group], self.recipe.criterion, [facts])[group.name]
        return without_dropped(scores, part.before)

    def _facts(self, part: _Part, norm: Tensor) -> Facts:
        if not bool(norm.isfinite().all()):
            raise SecateursError(
                f"{part.group.name} meets NaN or infinite activations: the network overflows there, or before; try "
                "float32 or bfloat16, or look at the calibration tokens"
            )
        (features,) = self.weights[part.name].inputs
        shape = [1] * part.weight.dim()
        shape[features - len(self.weights[part.name].shape)] = -1
        return Facts(activation_norm={part.name: norm.view(shape)})


class Later(Mapping[str, Tensor]):
    """Scores that are worked out when somebody first looks at them: most allocations count units alone.

    Args:
        make: Works them out.
    """

    def __init__(self, make: Callable[[], Scores]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Scores:
        return self._make()

    def __getitem__(self, name: str) -> Tensor:
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


def single_weights(groups: Iterable[Group]) -> dict[str, Group]:
    """Groups by the one tensor that each of them is about.

    Raises:
        SecateursError: Units of a group lie in several tensors, or two groups claim one tensor.
    """
    found: dict[str, Group] = {}
    for group in groups:
        names = {member.tensor for member in group.members}
        if group.removable or len(names) != 1:
            raise SecateursError(
                f"{group.name} reaches through several tensors; block by block only single weights can be settled "
                "(structures weight, n_m, block)"
            )
        (name,) = names
        if name in found:
            raise SecateursError(f"two structures claim {name}; keep it out of one of them")
        found[name] = group
    return found


def settle_network_(settling: Settling, task: Task) -> Plan:
    """Settle the weights of a network in memory, in one pass over the calibration batches; see ``sequential``.

    Where the recipe is not calibrated there is no pass, and any weight can be settled.

    Args:
        settling: Of all groups of the network.
        task: Calibration data, and the loss that runs the network.

    Returns:
        What stays.

    Raises:
        SecateursError: As ``plain`` and ``Settling``.
    """
    network, recipe, groups = settling.network, settling.recipe, settling.groups
    kept: dict[str, Tensor] = {}

    def settle(name: str, multiplied: Multiplied | Stacked | None) -> None:
        found = settling(name, multiplied).cpu()
        while settling.moved:
            tensor, axis, order = settling.moved.pop()
            group = groups.get(tensor)
            if group is not None and group.name in kept:
                dims = group.members[0].dims
                laid = kept[group.name].view([network.get_parameter(tensor).shape[dim] for dim in dims])
                kept[group.name] = laid.index_select(dims.index(axis), order).flatten()
        kept[groups[name].name] = found

    evidence.check_finite(dict(network.named_parameters()))
    if not recipe.calibrated:
        for name in groups:
            settle(name, None)
        return Plan(kept)
    with evidence.undisturbed(network):
        batches = [batch for _, batch in evidence.calibration(task, recipe.calibration_batches, "calibration")]
        forwards = [partial(_run, task, network, batch) for batch in batches]
        modules = plain(holders(network, groups), forwards[0])
        both: Sequence[Callable[[], None]] | Twins = forwards
        if recipe.compensate:
            both = Twins(forwards, forwards, streams(single(modules), network.modules(), forwards[0]))
        settle_(modules, both, settle, gram=recipe.solver is not None, to_the_end=False)
    settling.warn()
    return Plan({group.name: torch.ones(group.n_units, dtype=torch.bool) for group in groups.values()} | kept)


def _run(task: Task, network: nn.Module, batch: Batch) -> None:
    task.loss(network, batch)
