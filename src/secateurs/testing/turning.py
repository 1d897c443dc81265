"""Checks of the parts that say in which units a network is pruned: bases."""

from __future__ import annotations

import torch

from secateurs.testing.claims import check_spec, generator, require
from secateurs.types import Basis

_BLOCKS, _UNITS, _DEAD = 3, 6, 2


def check_basis(basis: Basis) -> None:
    """Matrices with an inverse, rotations where they are asked for, in float64; the same each time.

    Asked with many samples, with fewer than there are units, and with a unit that is always zero.

    Raises:
        AssertionError: It does not conform.
    """
    check_spec("basis", basis)
    source = generator()
    for samples in (100, 4):
        x = torch.randn(_BLOCKS, _UNITS, samples, generator=source, dtype=torch.float64)
        x[:, _DEAD] = 0
        weight = torch.randn(_BLOCKS, 9, _UNITS, generator=source, dtype=torch.float64)
        moments, readers = x @ x.mT, weight.mT @ weight
        for rotation in (True, False):
            said = f"{basis}, asked for {'a rotation' if rotation else 'any matrix'},"
            before = moments.clone(), readers.clone()
            made = basis(moments, readers, rotation)
            left = torch.equal(moments, before[0]) and torch.equal(readers, before[1])
            require(left, f"{said} changes what it is given")
            require(made.dtype == torch.float64 and made.shape == moments.shape, f"{said} gives no float64 matrices")
            require(torch.equal(made, basis(*before, rotation)), f"{said} gives another result the second time")
            unit = torch.eye(_UNITS, dtype=torch.float64).expand_as(made)
            back = made.mT if rotation else torch.linalg.inv(made)
            require(torch.allclose(back @ made, unit, atol=1e-6), f"{said} gives what cannot be turned back")
