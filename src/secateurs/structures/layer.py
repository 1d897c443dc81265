"""Depth: whole blocks (Fan et al. 2020; Sajjad et al. 2023) or single residual branches, skipped for real."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from secateurs.structures._dims import matches
from secateurs.types import Group, Member, Network, Residual, few


@dataclass(frozen=True)
class Layer:
    """One group for each chain of like blocks, or of like branches, around which the same residual stream leads.

    A dropped unit is not run, and its parameters are gone.

    Args:
        of: What goes: whole ``block``s, each with all of its branches, or single ``branch``es, such as an attention or
            a feed-forward sublayer.
        keep: Glob patterns of names of blocks or branches, e.g. ``encoder.layer.0``, that are not touched.
    """

    of: Literal["block", "branch"] = "block"
    keep: tuple[str, ...] = ()

    def __call__(self, network: Network) -> tuple[Group, ...]:
        chains: dict[str, list[Residual]] = {}
        for residual in network.residuals:
            if residual.of == self.of and not matches(residual.name, self.keep):
                chains.setdefault(residual.chain, []).append(residual)
        return tuple(_group(network, name, chain) for name, chain in chains.items() if len(chain) > 1)

    def why_none(self, network: Network) -> str:
        """A layer alone."""
        free = [residual for residual in network.residuals if not matches(residual.name, self.keep)]
        there = [residual.name for residual in free if residual.of == self.of] or [residual.name for residual in free]
        one = f"there is just one {self.of}" if len(there) == 1 or self.of == "block" else "each is the only one so"
        return f"a {self.of} goes only where others like it stay, and {one}: {few(there)}" if there else ""


def _group(network: Network, name: str, chain: list[Residual]) -> Group:
    scored = {weight.name for weight in network.weights}
    members = tuple(
        Member(tensor, (), scored=tensor in scored, unit=i)
        for i, residual in enumerate(chain)
        for tensor in residual.tensors
    )
    return Group(name, len(chain), members, len(chain), residuals=tuple(chain))
