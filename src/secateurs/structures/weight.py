"""Single weights: set to zero, not taken away (LeCun et al. 1990; Han et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from secateurs.structures._dims import free_weights
from secateurs.types import Group, Member, Network


@dataclass(frozen=True)
class Weight:
    """One group for each weight tensor that multiplies an activation; every weight is a unit.

    Biases, norms and embeddings, tied ones too, are left alone. Units are in the order of output features, then input
    features.

    Args:
        per: Among whom weights compete: all of a ``layer``, or those of one output ``row``, as Wanda asks for.
        outputs: Whether the last layers, whose outputs are the model's and no other layer reads, are pruned too.
        keep: Glob patterns of tensor names that are not touched.
    """

    per: Literal["layer", "row"] = "layer"
    outputs: bool = False
    keep: tuple[str, ...] = ()

    def __call__(self, network: Network) -> tuple[Group, ...]:
        found = []
        for weight in free_weights(network, self.keep, self.outputs):
            n_units = prod(weight.shape)
            row = prod(weight.shape[axis] for axis in weight.inputs)
            member = Member(weight.name, weight.outputs + weight.inputs)
            grid = tuple(weight.shape[axis] for axis in member.dims[len(weight.outputs) - 1 :])
            found.append(Group(weight.name, n_units, (member,), n_units if self.per == "layer" else row, grid=grid))
        return tuple(found)
