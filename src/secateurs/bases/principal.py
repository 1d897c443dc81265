"""Principal axes: directions of which some carry much and the others little.

Where the network allows rotations alone, as across a norm, these are the eigenvectors of the second moments ``S`` of
what is read (Ashkboos et al. 2024, SliceGPT, arXiv:2401.15024). Where any matrix is free, as between value and output
projection, it is the singular value decomposition ``W S^(1/2) = U D V^T`` of what is read by ``W``, times its root (Lin
et al. 2024, MoDeGPT, arXiv:2408.09632): of the units ``D V^T S^(-1/2) x``, read by ``U``, dropping the i-th loses
``D_i^2``, and so much it varies.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secateurs.types import check_damping

FLOOR = 1e-3
"""Units are not made smaller than this share of the largest: what reads them would be as much larger."""


@dataclass(frozen=True)
class Principal:
    """The most important direction first.

    Args:
        damping: What is added to the diagonal of the moments, as a fraction of its mean, where they are inverted.

    Raises:
        SecateursError: The damping is not above 0.
    """

    damping: float = 1e-6

    def __post_init__(self) -> None:
        """Check the damping."""
        check_damping("principal", self.damping)

    def __call__(self, moments: Tensor, readers: Tensor, rotation: bool) -> Tensor:
        if rotation:
            return _axes(moments)[1].mT
        level = self.damping * moments.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-30)
        values, axes = torch.linalg.eigh(moments + torch.diag_embed(level[..., None].expand(moments.shape[:-1])))
        root = values.clamp_min(level[..., None]).sqrt()
        half, inverse = ((axes * scale[..., None, :]) @ axes.mT for scale in (root, 1 / root))
        lost, axes = _axes(half @ readers @ half)
        size = lost.clamp_min(1e-30).sqrt()
        made: Tensor = torch.maximum(size, FLOOR * size[..., :1])[..., None] * (axes.mT @ inverse)
        return made


def _axes(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, largest first, and eigenvectors as columns; of each the largest entry is positive."""
    values, axes = torch.linalg.eigh((matrix + matrix.mT) / 2)
    largest = axes.gather(-2, axes.abs().argmax(-2, keepdim=True))
    return values.flip(-1), (axes * torch.where(largest < 0, -1.0, 1.0)).flip(-1)
