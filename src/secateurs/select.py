"""Scores and counts -> plan: exactly the number asked for, in every block."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from secateurs.types import Counts, Group, Plan, Scores, SecateursError


def select(groups: Sequence[Group], scores: Scores, counts: Counts) -> Plan:
    """Keep the ``counts[name]`` best units of every block of every group; of equal ones the first.

    Args:
        groups: What can go.
        scores: Group name -> ``(n_units,)``, higher = keep; infinite scores are fine.
        counts: Group name -> units kept in each block.

    Returns:
        Which units stay, on the CPU.

    Raises:
        SecateursError: Scores or a count are missing, of the wrong size, not a number, or outside the block.
    """
    return Plan({group.name: _best(_checked(group, scores, counts), counts[group.name]).cpu() for group in groups})


def share_below(scores: Scores, threshold: float) -> float:
    """The fraction of all units whose score is at most a threshold: the sparsity that the threshold stands for.

    A ranking of all units together at this sparsity, such as ``global_rank`` without a floor and with every unit at the
    same cost, drops just those units. Units that were dropped before (minus infinity) count.

    Args:
        scores: Group name -> ``(n_units,)``, e.g. magnitudes.
        threshold: In the unit of the scores.

    Raises:
        SecateursError: There are no scores, or the threshold is no number.
    """
    total = sum(score.numel() for score in scores.values())
    if not total or math.isnan(threshold):
        raise SecateursError(f"no share below {threshold:g} of {total} scores; give scores, and a number")
    return sum(int((score <= threshold).sum()) for score in scores.values()) / total


def _checked(group: Group, scores: Scores, counts: Counts) -> Tensor:
    """The scores of a group, one block a row."""
    if group.name not in scores or group.name not in counts:
        missing = "scores" if group.name not in scores else "count"
        raise SecateursError(f"{group.name} has no {missing}; score and allocate every group that is selected from")
    score, count = scores[group.name], counts[group.name]
    if score.shape != (group.n_units,):
        raise SecateursError(f"{group.name} has {group.n_units} units, but scores of shape {tuple(score.shape)}")
    if score.isnan().any():
        raise SecateursError(
            f"{group.name} has {int(score.isnan().sum())} scores that are not a number; look for NaN in its weights "
            "or in the calibration data"
        )
    if not 0 <= count <= group.block:
        raise SecateursError(f"{group.name} cannot keep {count} units of every block of {group.block}")
    return score.reshape(group.n_blocks, group.block)


def _best(blocks: Tensor, count: int) -> Tensor:
    """True for the ``count`` highest of every row, flattened; of equal ones the first."""
    if count in (0, blocks.shape[1]):
        return torch.full((blocks.numel(),), count > 0)
    worst_kept = blocks.kthvalue(blocks.shape[1] - count + 1, dim=1, keepdim=True).values
    above, level = blocks > worst_kept, blocks == worst_kept
    room = count - above.sum(dim=1, keepdim=True)
    return (above | (level & (level.cumsum(dim=1) <= room))).flatten()


def without_dropped(scores: Tensor, keep: Tensor | None) -> Tensor:
    """Scores of a group in which what was dropped before ranks below everything."""
    return scores if keep is None else torch.where(keep, scores, -torch.inf)
