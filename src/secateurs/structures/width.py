"""The width of a residual stream: embeddings, norms and every projection that reads or writes it."""

from __future__ import annotations

from dataclasses import dataclass

from secateurs.structures._constraints import Constraints
from secateurs.structures._dims import free_dims, groups_inside
from secateurs.types import Group, Network


@dataclass(frozen=True)
class Width(Constraints):
    """One group for each free dim of role width; norms are taken over it, so what stays is scaled anew.

    Units inside the groups of a group norm compete there, and each group loses the same number. Fields: those of
    ``Constraints``.
    """

    def __call__(self, network: Network) -> tuple[Group, ...]:
        return self.constrained(groups_inside(network, free_dims(network, "width", self.keep, flagged=True)))
