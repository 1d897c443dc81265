"""Tokens that are not needed: their rows in the embedding, and in the layer that scores them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from secateurs.structures._constraints import Constraints
from secateurs.structures._dims import free_dims, group_over
from secateurs.types import Group, Network, SecateursError


@dataclass(frozen=True)
class Vocabulary(Constraints):
    """One group for each vocabulary; a table and the layer that scores its tokens, tied or not, lose the same ones.

    Tokens that stay keep their numbers: a tokenizer goes on as it is.

    Args:
        keep_tokens: Numbers of tokens that stay, such as those of special tokens.
        smallest: Tables with fewer rows than this, such as those of token types, are not touched.

    The other fields are those of ``Constraints``; of ``multiple`` a multiple is kept among the tokens that may go.

    Raises:
        SecateursError: A number of ``keep_tokens`` is negative.
    """

    keep_tokens: tuple[int, ...] = ()
    smallest: int = 16

    def __post_init__(self) -> None:
        """Check the numbers."""
        super().__post_init__()
        if min(self.keep_tokens, default=0) < 0:
            raise SecateursError(f"vocabulary: keep_tokens are numbers from 0 on, got {min(self.keep_tokens)}")

    def __call__(self, network: Network) -> tuple[Group, ...]:
        dims = free_dims(network, "vocabulary", self.keep, flagged=True)
        groups = (group_over(network, dim.name) for dim in dims if dim.size >= self.smallest)
        return self.constrained(self._spared(group) for group in groups)

    def _spared(self, group: Group) -> Group:
        """The group of the other tokens."""
        if not self.keep_tokens:
            return group
        others = torch.tensor([i for i in range(group.n_units) if i not in set(self.keep_tokens)], dtype=torch.long)
        members = tuple(replace(member, index=others[:, None]) for member in group.members)
        return replace(group, n_units=len(others), block=len(others), members=members)
