"""Least squares: what is left of a layer's inputs is made to give what the dense layer gives (He et al. 2017).

With the inputs ``x`` that the pruned network gives the layer, and the dense network's target ``t``, over all positions
of the calibration data::

    W' = W + E[(t - W x) x^T] (E[x x^T] + damping mean(diag E[x x^T]) I)^-1

The target is what the dense layer gives, or, where its output is added to a residual stream, what makes that stream
the dense network's again behind the addition, so that a layer mends what went wrong before it, and the last layer
before a block that is not run mends the seam.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from secateurs.recoveries._beside import Beside, Change, Sums
from secateurs.recoveries._layers import Layer
from secateurs.types import check_damping


@dataclass(frozen=True, kw_only=True)
class Reconstruct(Beside):
    """Solve the weights of layers anew, in order of the forward pass, from the inputs that they have now.

    Args:
        damping: Of the change: what is added to the diagonal, as a fraction of its mean.
        follow: ``output``: layers that have lost inputs, towards what the dense layer gives. ``stream``: these, and all
            layers whose output is added to a residual stream, towards the dense network's stream.
        adds_bias: Whether layers without a bias are given one where they can lose inputs, and solved for it as well.

    The other fields are those of ``Beside``. Layers of which single weights are masked, or that have lost outputs, are
    left alone. Positions that are padding count.

    Raises:
        SecateursError: As ``Beside``; the damping is not above 0.
    """

    second: ClassVar[bool] = True

    damping: float = 0.3
    follow: Literal["output", "stream"] = "stream"
    adds_bias: bool = False

    def __post_init__(self) -> None:
        """Check every field against its range."""
        super().__post_init__()
        check_damping("reconstruct", self.damping)

    def mends(self, layer: Layer, masks: Mapping[str, Tensor]) -> bool:
        """Layers that have lost inputs; those that write to a stream."""
        dropped = {f"{layer.name}.weight", f"{layer.name}.bias"} & masks.keys()
        return not dropped and (layer.narrowed or self.target(layer) is not None)

    def target(self, layer: Layer) -> str | None:
        """Where the stream is read next."""
        return layer.reader if self.follow == "stream" else None

    def change(self, layer: Layer, sums: Sums, masks: Mapping[str, Tensor]) -> Change:
        """The solution, and that for the bias where there is one."""
        x, error, xx, error_x = (
            torch.as_tensor(it).double() / sums.number for it in (sums.x, sums.error, sums.xx, sums.error_x)
        )
        if layer.bias is not None:
            xx, error_x = xx - torch.outer(x, x), error_x - torch.outer(error, x)
        xx.diagonal().add_(self.damping * xx.diagonal().mean().clamp_min(1e-30))
        change = torch.linalg.solve(xx, error_x.T).T
        return change, None if layer.bias is None else error - change @ x
