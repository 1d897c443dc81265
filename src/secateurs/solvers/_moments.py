"""Second moments made fit to be factored: dead inputs and singular matrices get a little on their diagonal."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from secateurs.types import SecateursError

logger = logging.getLogger("secateurs.solvers")
_LEAST = 1e-6
"""What a singular matrix gets at first, as a share of the mean of its diagonal."""


def damped(matrix: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """The matrix with ``damping`` times the mean of its diagonal added to the diagonal, and its Cholesky factor.

    Args:
        matrix: ``(i, i)``, symmetric and positive semidefinite; left alone.
        damping: A share, at least 0; ten times as much until the matrix can be factored.

    Returns:
        The positive definite matrix and its lower factor, both ``(i, i)`` float32.

    Raises:
        SecateursError: The matrix is not finite.
    """
    matrix = matrix.float()
    if not bool(matrix.isfinite().all()):
        raise SecateursError("the second moments of a weight's input are not finite; look for NaN in the activations")
    diagonal = matrix.diagonal()
    dead = int((diagonal <= 0).sum())
    if dead:
        logger.info("%d of %d inputs of a weight are zero in all of the calibration data", dead, len(diagonal))
    mean = float(diagonal.mean()) or 1.0
    share = damping
    while True:
        made = matrix.clone()
        made.diagonal().add_(share * mean)
        factor, failed = torch.linalg.cholesky_ex(made)
        if not int(failed) and bool(factor.diagonal().isfinite().all()):
            break
        share = max(10 * share, _LEAST)
    if share > damping:
        logger.warning("singular second moments of a weight's input: damped by %g instead of %g", share, damping)
    return made, factor
