"""Torch's embedding and linear layer with fewer rows than the vocabulary that they speak has tokens.

A network that lost tokens keeps their numbers: tokenizers, data and generation stay as they are. An embedding that lost
rows finds those that stay by the old numbers, and reads zeros for a token that is gone, as the masked network does. A
layer that makes scores of tokens makes those of the tokens that stay, and minus infinity for the others, so that they
are never picked. Tensors keep their names; the numbers lie in buffers that ``state_dict`` leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateurs.types import SecateursError

GONE = float("-inf")
"""The score of a token that is gone."""


@dataclass(frozen=True)
class Tokens:
    """The tokens that an embedding, or a layer that makes scores of tokens, still has.

    Args:
        module: Its qualified name.
        kept: Old numbers of the tokens that stay, ascending: token ``kept[i]`` is row i.
        size: How many there were.
    """

    module: str
    kept: tuple[int, ...]
    size: int


class ShortEmbedding(nn.Embedding):
    """An embedding that is read by the numbers of a larger vocabulary; made by ``shorten_``, never built.

    ``rows`` is ``(size,)``: the row of every old number, -1 where there is none.
    """

    rows: Tensor
    padding_row: int | None

    def forward(self, input: Tensor) -> Tensor:
        """Numbers of any shape -> one row more dim; zeros for a token that is gone."""
        row = self.rows.index_select(0, input.flatten()).view(input.shape)
        found = F.embedding(
            row.clamp(min=0),
            self.weight,
            self.padding_row,
            scale_grad_by_freq=self.scale_grad_by_freq,
            sparse=self.sparse,
        )
        return found.masked_fill((row < 0).unsqueeze(-1), 0.0)


class ShortLinear(nn.Linear):
    """A linear layer whose outputs stand among those of a larger vocabulary; made by ``shorten_``, never built.

    ``kept`` is ``(out_features,)``: the old number of every output.
    """

    kept: Tensor
    size: int

    def forward(self, input: Tensor) -> Tensor:
        """Scores of all old tokens: minus infinity where one is gone."""
        scores = super().forward(input)
        return scores.new_full((*scores.shape[:-1], self.size), GONE).index_copy(-1, self.kept, scores)


def can_shorten(module: nn.Module) -> bool:
    """Whether it is one of torch's own layers, as torch runs them, so that what reads its tensors is known."""
    plain = type(module) in {nn.Embedding, nn.Linear} and "forward" not in vars(module)
    return plain and getattr(module, "max_norm", None) is None


def shorten_(module: nn.Module, kept: Sequence[int], size: int) -> None:
    """Make a layer that has lost rows speak the old numbers.

    Args:
        module: ``nn.Embedding`` or ``nn.Linear`` with one row for each kept token.
        kept: Their old numbers, ascending.
        size: How many tokens there were.

    Raises:
        SecateursError: It is another layer, or has another number of rows.
    """
    rising = all(a < b for a, b in zip((-1, *kept), (*kept, size), strict=True))
    if not (can_shorten(module) and isinstance(module, nn.Embedding | nn.Linear) and rising):
        raise SecateursError(f"{type(module).__name__} cannot have {len(kept)} of {size} tokens: take another network")
    if len(module.weight) != len(kept):
        raise SecateursError(f"a layer has {len(module.weight)} rows, not one for each of {len(kept)} tokens")
    numbers = torch.tensor(kept, dtype=torch.long, device=module.weight.device)
    short: Any = module
    if isinstance(module, nn.Embedding):
        rows = torch.full((size,), -1, device=numbers.device)
        rows[numbers] = torch.arange(len(kept), device=numbers.device)
        padding = -1 if module.padding_idx is None else int(rows[module.padding_idx])
        short.register_buffer("rows", rows, persistent=False)
        short.__class__, short.padding_row = ShortEmbedding, None if padding < 0 else padding
    else:
        short.register_buffer("kept", numbers, persistent=False)
        short.__class__, short.size = ShortLinear, size
