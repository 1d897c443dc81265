"""What removed inputs gave on average becomes a bias: ``b += W_P E[x_P]`` (An et al. 2024, FLAP, arXiv:2312.11983).

Found as the mean difference between what the dense layer gives and what the pruned one does with those of the dense
network's inputs that are left::

    b += E[W x] - E[W_S x_S]

That is the paper's. What was pruned before the layer is not made up for: a mean over that drift as well made a language
model worse than it was without a bias (perplexity 37.4 for 35.2; by the paper's formula 33.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from secateurs.recoveries._beside import Beside, Change, Sums
from secateurs.recoveries._layers import Layer


@dataclass(frozen=True, kw_only=True)
class Bias(Beside):
    """Correct the mean of every layer that has lost inputs or single weights; no weight changes.

    Layers without a bias are given one where they can lose inputs and keep their outputs. Positions that are padding
    count. A layer that has lost outputs as well is left alone.

    Fields: those of ``Beside``.
    """

    adds_bias: ClassVar[bool] = True
    drifts: ClassVar[bool] = False

    def mends(self, layer: Layer, masks: Mapping[str, Tensor]) -> bool:
        """Layers with a bias that have lost something that they read."""
        return layer.bias is not None and (layer.narrowed or f"{layer.name}.weight" in masks)

    def change(self, layer: Layer, sums: Sums, masks: Mapping[str, Tensor]) -> Change:
        """The mean error."""
        shift, mask = torch.as_tensor(sums.error) / sums.number, masks.get(f"{layer.name}.bias")
        return None, shift if mask is None else shift * mask.to(shift.device)
