"""What a user states about the widths that are left: multiples of a number, the same for layers alike."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import lcm

from secateurs.types import Group, SecateursError, few

logger = logging.getLogger("secateurs.structures")


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """What every structure that makes tensors smaller lets its user state.

    Args:
        keep: Glob patterns of dim names that are not touched.
        multiple: Of each layer a multiple of this many units is kept, or all of them: vector units and caches of the
            hardware work on 4, 8 or 16 numbers at once, and odd widths can be slower than the full one. Layers no wider
            than this are not touched.
        same: Whether layers of one width keep the same number of units, as models with one width for all layers need.

    Raises:
        SecateursError: The multiple is less than 1.
    """

    keep: tuple[str, ...] = ()
    multiple: int = 1
    same: bool = False

    def __post_init__(self) -> None:
        """Check the multiple."""
        if self.multiple < 1:
            raise SecateursError(f"{type(self).__name__.lower()}: multiple must be at least 1, got {self.multiple}")

    def constrained(self, groups: Iterable[Group]) -> tuple[Group, ...]:
        """The groups that can lose something under these constraints, which are written on them."""
        alike = type(self).__name__.lower() if self.same else ""
        found = [replace(group, multiple=lcm(group.multiple, self.multiple), alike=alike) for group in groups]
        whole = [group.name for group in found if group.least < group.block <= group.multiple]
        if whole and self.multiple > 1:
            kind = type(self).__name__.lower()
            logger.warning("%s: multiple %d leaves nothing to remove of %s", kind, self.multiple, few(whole))
        return tuple(group for group in found if group.block > max(group.multiple, group.least))
