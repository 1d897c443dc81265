"""N:M sparsity: N weights kept of every M consecutive ones along the input features (Mishra et al. 2021: 2:4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from secateurs.structures._dims import free_weights
from secateurs.types import Group, Member, Network, SecateursError, Weight, few


@dataclass(frozen=True)
class NM:
    """One group for each weight tensor that multiplies an activation; blocks of M neighbours along its input features.

    Every kernel position has blocks of its own. Embeddings, tied ones too, are left alone, and so are kernels of fewer
    than M input features, such as depthwise ones, which have no neighbours to choose from. The pattern fixes the
    sparsity at ``1 - n/m``; a recipe refuses any other, and any allocation that would take more from some layers than
    from others.

    Args:
        n: Weights kept in every block, at least 1.
        m: Weights in a block, more than n.
        outputs: Whether the last layers, whose outputs are the model's and no other layer reads, are pruned too.
        keep: Glob patterns of tensor names that are not touched.

    Raises:
        SecateursError: n is not between 1 and m - 1, or m does not divide the input features of a tensor;
            those of kernels that are left alone do not count.
    """

    n: int = 2
    m: int = 4
    outputs: bool = False
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the pattern."""
        if not 1 <= self.n < self.m:
            raise SecateursError(f"n_m: n of m weights are kept, with 1 <= n < m; got {self.n} of {self.m}")

    @property
    def sparsity(self) -> float:
        """The only sparsity that the pattern allows."""
        return 1 - self.n / self.m

    def __call__(self, network: Network) -> tuple[Group, ...]:
        weights = [weight for weight in self._free(network) if not self._is_narrow(weight)]
        sizes = {weight.name: _features(weight) for weight in weights}
        odd = [f"{name} ({size})" for name, size in sizes.items() if size % self.m]
        if odd:
            raise SecateursError(f"n_m: {self.m} does not divide the input features of {few(odd)}; name them in keep")
        found = []
        for weight in weights:
            features, *kernel = weight.inputs
            member = Member(weight.name, (*weight.outputs, *kernel, features))
            grid = tuple(weight.shape[axis] for axis in member.dims[len(weight.outputs) - 1 :])
            found.append(Group(weight.name, prod(weight.shape), (member,), self.m, grid=grid))
        return tuple(found)

    def left(self, network: Network) -> str:
        """The kernels in which there is no block."""
        names = [f"{weight.name} ({_features(weight)})" for weight in self._free(network) if self._is_narrow(weight)]
        return f"n_m: {few(names)} stays as it is: fewer than {self.m} input features" if names else ""

    def _free(self, network: Network) -> Iterator[Weight]:
        return free_weights(network, self.keep, self.outputs)

    def _is_narrow(self, weight: Weight) -> bool:
        return len(weight.inputs) > 1 and _features(weight) < self.m


def _features(weight: Weight) -> int:
    return weight.shape[weight.inputs[0]]
