"""Which units stay once it is known how many: the best-scored, or those that a chooser finds to be best together."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from secateurs import evidence
from secateurs.rows import rows_of
from secateurs.select import select
from secateurs.types import Chooser, Counts, Facts, Group, Plan, Scores, SecateursError

logger = logging.getLogger("secateurs.choosing")


class Latest(Iterable[Facts]):
    """Facts as they are yielded, of which the last stay at hand; what is not of one batch is in them all.

    Args:
        found: Is iterated once.
    """

    def __init__(self, found: Iterable[Facts]) -> None:
        self._found = iter(found)
        self._last: Facts | None = None

    def __iter__(self) -> Iterator[Facts]:
        for each in self._found:
            self._last = each
            yield each

    @property
    def last(self) -> Facts:
        """Where nobody has looked yet, the rest is gone through."""
        for _ in self:
            pass
        return self._last or Facts()


def choose(
    chooser: Chooser | None, model: nn.Module, groups: Sequence[Group], wanted: tuple[Scores, Counts], facts: Latest
) -> Plan:
    """What stays of every group: exactly the number asked for, in every block.

    Args:
        chooser: None: the best-scored stay.
        model: The network that the groups belong to.
        groups: What can go.
        wanted: Scores, and what is kept of each block.
        facts: With what the chooser needs.

    Raises:
        SecateursError: As ``select``; a chooser is asked of layers or single weights, or gives another number.
    """
    scores, counts = wanted
    if chooser is None:
        return select(groups, scores, counts)
    plan, tensors, told = select(groups, scores, counts), evidence.named_tensors(model), time.monotonic()
    for number, group in enumerate(groups, start=1):
        if not group.dims:
            raise SecateursError(f"{group.name}: a chooser compares units that share tensors; drop it from the recipe")
        [rows] = rows_of(group, tensors, facts.last)
        with torch.no_grad():
            keep = chooser(rows, scores[group.name], group.block, counts[group.name])
        if (keep.view(group.n_blocks, group.block).sum(1) != counts[group.name]).any():
            raise SecateursError(f"{chooser} keeps another number of {group.name} than {counts[group.name]} of a block")
        plan = Plan({**plan.keep, group.name: keep})
        if time.monotonic() - told > 1:
            told = time.monotonic()
            logger.info("choosing: group %d of %d", number, len(groups))
    return plan
