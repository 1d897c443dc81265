"""Kernel shapes: the same number of positions kept in every kernel of a convolution (Niu et al. 2020: PatDNN)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from secateurs.structures._dims import free_weights
from secateurs.types import Group, Member, Network


@dataclass(frozen=True)
class Pattern:
    """One group for each convolution weight with kernels of more than one position; positions compete in a kernel.

    An allocation says how many positions stay; four of nine are usual. They become zero and are not taken away.

    Args:
        per: Whose shape it is: every ``kernel`` (one input, one output channel) has its own, or the ``layer`` has one
            for all, and a unit is a position of all of its kernels.
        outputs: Whether the last layers, whose outputs are the model's and no other layer reads, are pruned too.
        keep: Glob patterns of tensor names that are not touched.
    """

    per: Literal["kernel", "layer"] = "kernel"
    outputs: bool = False
    keep: tuple[str, ...] = ()

    def __call__(self, network: Network) -> tuple[Group, ...]:
        found = []
        for weight in free_weights(network, self.keep, self.outputs):
            features, *kernel = weight.inputs
            positions = prod(weight.shape[axis] for axis in kernel)
            if positions > 1:
                outer = (*weight.outputs, features) if self.per == "kernel" else ()
                member = Member(weight.name, (*outer, *kernel))
                n_units = prod(weight.shape[axis] for axis in member.dims)
                found.append(Group(weight.name, n_units, (member,), positions))
        return tuple(found)
