"""Sequences cut from a stream of tokens: to calibrate on, spread over all of it, and to evaluate on, in a row."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from secateurs.types import SecateursError

logger = logging.getLogger("secateurs.tasks")

Starts = Literal["even", "random"]


def spread(tokens: Tensor, length: int, count: int, starts: Starts = "even", seed: int = 0) -> Tensor:
    """Cut sequences from all over a stream.

    Evenly: sequence i starts at ``i (N - length) // (count - 1)``, so the first begins the stream and the last ends it.
    At random: starts are drawn uniformly, with replacement. Of ready sequences whole ones are chosen likewise, and cut.

    Args:
        tokens: ``(n_tokens,)``, or ``(n_sequences, n_tokens)`` of ready sequences.
        length: Tokens of a sequence.
        count: Sequences.
        starts: How the starts are chosen.
        seed: Of the draw.

    Returns:
        ``(count, length)``.

    Raises:
        SecateursError: The stream is shorter than one sequence.
    """
    _check(tokens, length)
    ready = tokens.dim() == 2
    most = len(tokens) if ready else len(tokens) // length
    if count > most:
        logger.warning("%d sequences are asked for, and the tokens give %d that share none; they overlap", count, most)
    last = len(tokens) - 1 if ready else len(tokens) - length
    if starts == "random":
        chosen = torch.randint(last + 1, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    else:
        chosen = [i * last // max(1, count - 1) for i in range(count)]
    return torch.stack([tokens[i, :length] if ready else tokens[i : i + length] for i in chosen])


def in_a_row(tokens: Tensor, length: int, stride: int) -> Tensor:
    """Cut sequences one after the other: ``stride`` tokens on each time; what is left at the end is left out.

    Args:
        tokens: ``(n_tokens,)``, or ready sequences ``(n_sequences, n_tokens)``, of which each gives one.
        length: Tokens of a sequence.
        stride: At most ``length``; below it each sequence begins with the end of the one before.

    Returns:
        ``(n, length)``.

    Raises:
        SecateursError: The stream is shorter than one sequence.
    """
    _check(tokens, length)
    return tokens[:, :length] if tokens.dim() == 2 else tokens.unfold(0, length, stride)


def apart(tokens: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The front of a stream and its last ``share``, of ready sequences likewise.

    Args:
        tokens: ``(n_tokens,)`` or ``(n_sequences, n_tokens)``.
        share: Of the end, in (0, 1).
    """
    cut = len(tokens) - max(1, round(share * len(tokens)))
    return tokens[:cut], tokens[cut:]


def with_start(sequences: Tensor, token: int | None) -> Tensor:
    """The same with this token before each; ``(n, length + 1)``, or unchanged for None."""
    if token is None:
        return sequences
    return torch.cat((sequences.new_full((len(sequences), 1), token), sequences), 1)


def widest(shapes: Sequence[Sequence[int]]) -> int:
    """The most inputs that one of these weights has, ``(outputs, inputs)`` each.

    Args:
        shapes: Of matrices.
    """
    return max((shape[-1] for shape in shapes), default=0)


def _check(tokens: Tensor, length: int) -> None:
    there = tokens.shape[-1] if tokens.numel() else 0
    if there < length:
        kind = "each ready sequence" if tokens.dim() == 2 else "the text"
        raise SecateursError(
            f"{kind} is {there} token{'s' if there != 1 else ''} long, shorter than one sequence of {length}; give "
            "more text or a smaller length"
        )
