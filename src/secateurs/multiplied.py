"""What a weight multiplies, summed over the tokens that meet it: norms of features, or their products."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from secateurs.moments import add_products_, mirrored_
from secateurs.stacks import rows_of
from secateurs.twins import Drift
from secateurs.types import Gram


class Multiplied:
    """What a weight multiplies, summed over all tokens; one object for weights that multiply the same.

    Args:
        gram: Whether products of features are wanted, or their squares alone.

    ``order`` is in which order the features are taken, where it is another than the one in which they came.
    """

    def __init__(self, gram: bool) -> None:
        self.tokens = 0
        self._products = gram
        self._sums: Tensor | None = None
        self.drift: Drift | None = None
        self.order: Tensor | None = None

    @classmethod
    def even(cls, gram: bool, like: Tensor) -> Multiplied:
        """No token was met: features without a relation, and all of one size, that of these norms: ``(i,)``."""
        made = cls(gram)
        made._sums = torch.full_like(like, float(like.square().mean()))
        made._sums = made._sums.diag() if gram else made._sums
        return made

    @property
    def parts(self) -> tuple[Multiplied, ...]:
        """One for each matrix of the weight: itself."""
        return (self,)

    def add(self, x: Tensor) -> None:
        """Add tokens: ``(..., i)``."""
        x = x.detach().reshape(-1, x.shape[-1]).float()
        self.tokens += len(x)
        if self._sums is None:
            self._sums = x.new_zeros([x.shape[1]] * (2 if self._products else 1))
        if not self._products:
            self._sums += torch.linalg.vector_norm(x, dim=0).square()
            return
        add_products_(self._sums, x)

    @cached_property
    def gram(self) -> Gram:
        """``(i, i)``: the sum of ``x x^T``. What was added takes its place in memory."""
        assert self._sums is not None and self._products
        return Gram(mirrored_(self._sums))

    def aim(self, name: str, weight: Tensor) -> Tensor:
        """What a weight should come to: ``(o, i)``, itself where there was no twin to compare with."""
        if self.drift is None or self.drift.tokens < self.tokens:
            return weight
        return self.drift.made_up_for(name, weight, self.gram)

    def reorder_(self, order: Tensor) -> None:
        """The features in another order, ``(i,)``: that of the weight from here on."""
        assert self._sums is not None and self.order is None
        self.order = order.to(self._sums.device)
        if self._products:
            matrix = self.gram.matrix[self.order][:, self.order]
            self._sums, self.gram = matrix, Gram(matrix)
        else:
            self._sums = self._sums[self.order]
        if self.drift is not None:
            self.drift.reorder_(self.order)

    @property
    def norm(self) -> Tensor:
        """``(i,)`` float32: the L2 norm of every feature."""
        assert self._sums is not None
        return (self._sums.diagonal() if self._products else self._sums).sqrt()


class Stacked:
    """What each matrix of a stack multiplies: the experts of a layer, to each of which other tokens are sent.

    Args:
        gram: As for ``Multiplied``.
        matrices: How many.
    """

    def __init__(self, gram: bool, matrices: int) -> None:
        self._gram = gram
        self._each = [Multiplied(gram) for _ in range(matrices)]

    def add(self, x: Tensor, ends: Tensor | None) -> None:
        """Add tokens, as ``rows_of`` takes them."""
        for matrix, rows in enumerate(rows_of(x, ends)):
            self.add_to(matrix, rows)

    def add_to(self, matrix: int, x: Tensor) -> None:
        """Add the tokens of one matrix: ``(tokens, i)``."""
        if len(x):
            self._each[matrix].add(x)

    @cached_property
    def parts(self) -> tuple[Multiplied, ...]:
        """One for each matrix; one that met no token is taken to meet what the others do on average."""
        norms = torch.stack([one.norm for one in self._each if one.tokens])
        usual = norms.square().mean(dim=0).sqrt()
        return tuple(one if one.tokens else Multiplied.even(self._gram, usual) for one in self._each)
