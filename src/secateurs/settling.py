"""What becomes of one weight once it is known what it multiplies: the parts of a recipe, applied to it alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from torch import Tensor, nn

from secateurs import evidence, surgery
from secateurs.recipe import Recipe
from secateurs.select import select, without_dropped
from secateurs.sequential import Multiplied, holders, plain, settle_
from secateurs.twins import Twins, streams
from secateurs.types import Batch, Counts, Facts, Group, Plan, Scores, SecateursError, Task, Weight

logger = logging.getLogger("secateurs.settling")


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
    """

    network: nn.Module
    weights: Mapping[str, Weight]
    groups: Mapping[str, Group]
    counts: Counts
    recipe: Recipe
    plan: Plan = field(default_factory=lambda: Plan({}))
    short: list[str] = field(default_factory=list)

    def __call__(self, name: str, multiplied: Multiplied | None) -> Tensor:
        """Settle this weight; which of its units stay, ``(n_units,)`` bool.

        Args:
            name: Of the weight.
            multiplied: What it multiplies; None where the recipe is not calibrated.

        Raises:
            SecateursError: It, or what it multiplies, holds NaN or infinite values.
        """
        group, scores = self.groups[name], self.scores(name, multiplied)
        if self.recipe.solver is None or multiplied is None:
            plan = select([group], {group.name: scores}, self.counts)
            surgery.mask_(self.network, [group], plan)
            return plan.keep[group.name]
        weight, (member,) = self.network.get_parameter(name).detach(), group.members
        laid = weight.permute(member.dims)
        matrix = laid.reshape(-1, len(multiplied.norm)).float()
        if multiplied.tokens < matrix.shape[1]:
            self.short.append(name)
        kept, solved = self.recipe.solver(
            multiplied.aim(name, matrix),
            multiplied.gram,
            scores.to(matrix.device).view_as(matrix),
            group.block,
            self.counts[group.name],
        )
        laid.copy_(solved.view_as(laid))
        return kept.flatten()

    def warn(self) -> None:
        """Say which weights were settled on too little."""
        if self.short:
            logger.warning(
                "%d weights were settled on fewer tokens than they have input features (%s, ...): their Gram matrices "
                "are singular; give more calibration tokens",
                len(self.short),
                self.short[0],
            )

    def scores(self, name: str, multiplied: Multiplied | None) -> Tensor:
        """What its units are worth: ``(n_units,)``; arguments as for a call.

        Raises:
            SecateursError: It, or what it multiplies, holds NaN or infinite values.
        """
        facts = Facts() if multiplied is None else self._facts(name, multiplied)
        group = self.groups[name]
        scores = evidence.scored(self.network, [group], self.recipe.criterion, [facts])[group.name]
        return without_dropped(scores, self.plan.keep.get(group.name))

    def _facts(self, name: str, multiplied: Multiplied) -> Facts:
        if not bool(multiplied.norm.isfinite().all()):
            raise SecateursError(
                f"{name} meets NaN or infinite activations: the network overflows there, or before; try float32 or "
                "bfloat16, or look at the calibration tokens"
            )
        (features,) = self.weights[name].inputs
        shape = [1] * len(self.weights[name].shape)
        shape[features] = -1
        return Facts(activation_norm={name: multiplied.norm.view(shape)})


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
    evidence.check_finite(dict(network.named_parameters()))
    if not recipe.calibrated:
        return Plan({group.name: settling(name, None).cpu() for name, group in groups.items()})
    kept: dict[str, Tensor] = {}

    def settle(name: str, multiplied: Multiplied) -> None:
        kept[groups[name].name] = settling(name, multiplied).cpu()

    with evidence.undisturbed(network):
        batches = [batch for _, batch in evidence.calibration(task, recipe.calibration_batches, "calibration")]
        forwards = [partial(_run, task, network, batch) for batch in batches]
        modules = plain(holders(network, groups), forwards[0])
        both: Sequence[Callable[[], None]] | Twins = forwards
        if recipe.compensate:
            both = Twins(forwards, forwards, streams(modules, network.modules(), forwards[0]))
        settle_(modules, both, settle, gram=recipe.solver is not None, to_the_end=False)
    settling.warn()
    missed = [name for name, group in groups.items() if group.name not in kept]
    if missed:
        raise SecateursError(f"no calibration batch reaches {missed[0]}; keep it out of the structure")
    return Plan(kept)


def _run(task: Task, network: nn.Module, batch: Batch) -> None:
    task.loss(network, batch)
