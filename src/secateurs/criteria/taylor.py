"""First-order Taylor expansion of the loss: ``E[(sum_e g_e w_e)^2]`` (Molchanov et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateurs.types import Need, Rows


@dataclass(frozen=True)
class Taylor:
    """Squared first-order change of the loss when a unit is set to zero, averaged over batches.

    Within one member the products ``g w`` are summed before they are squared: together they are the derivative by a
    gate on the unit at that place of the network. Members are different places, and are added after squaring, so that
    places of opposite sign cannot cancel. Each gate is seen by the weights that make the unit and by those that read
    it, in every group alike, so groups can be ranked together. For a single weight it is ``(g w)^2``.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"weight", "gradient"})

    def __call__(self, rows: Sequence[Rows]) -> Tensor:
        return torch.stack([_gate(r).square() for r in rows]).sum(dim=0)


def _gate(rows: Rows) -> Tensor:
    assert rows.gradient is not None
    return (rows.gradient.float() * rows.weight.float()).sum(dim=1)
