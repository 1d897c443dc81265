"""The traced network as plain data: named dims, the shape of every tensor in terms of them, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from secateurs.graph import meetings, pricing
from secateurs.types import Dim, Group, Member, Price, Residual, Side, Weight

if TYPE_CHECKING:
    from secateurs.graph.rewrite import Recording


@dataclass(frozen=True, slots=True)
class Sum:
    """A concatenation of axes."""

    parts: tuple[Factors, ...]


Factors = tuple["str | int | Sum", ...]
"""One tensor axis as a product, outermost first: names of dims, sizes of nameless ones, sums."""

Sizes = Mapping[str, int]
"""Dim name -> size; a dim not named keeps its own."""


@dataclass(frozen=True, slots=True)
class Product:
    """A product that is summed over an axis: its multiply-accumulates are the product of the sizes of its axes.

    Args:
        operator: The ATen operator.
        axes: All axes, those summed over included.
        weight: The parameter that takes part; None for a product of two activations.
        module: The module whose forward computes it.
    """

    operator: str
    axes: tuple[Factors, ...]
    weight: str | None = None
    module: str = ""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens that can go while those that stay keep their numbers.

    Args:
        dim: Their dim.
        tables: The modules that look them up.
        outputs: The modules that score them.
    """

    dim: str
    tables: tuple[str, ...]
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """A network of named dims; implements ``secateurs.types.Network``.

    Args:
        dims: By name, in the order of the parameters that carry them.
        tensors: Parameter or buffer name -> its axes.
        weights: The parameters that multiply activations.
        products: The products of one forward pass.
        trainable: Names of the parameters (the other tensors are buffers).
        unknown: Operators met that have no rule.
        spared: (tensor, axis) along which a dropped unit keeps its values while it is masked.
        residuals: What can be skipped such that its input is left.
        vocabularies: The dims of tokens that can go.
        recording: The network as operators, where it may be rewritten.
    """

    dims: Mapping[str, Dim]
    tensors: Mapping[str, tuple[Factors, ...]]
    weights: tuple[Weight, ...] = ()
    products: tuple[Product, ...] = ()
    trainable: frozenset[str] = frozenset()
    unknown: frozenset[str] = field(default_factory=frozenset)
    spared: frozenset[tuple[str, int]] = field(default_factory=frozenset)
    residuals: tuple[Residual, ...] = ()
    vocabularies: tuple[Vocabulary, ...] = ()
    recording: Recording | None = None

    def size(self, axis: Factors, sizes: Sizes | None = None) -> int:
        """Number of positions of an axis, after dims took these sizes."""
        return prod(self._factor(factor, sizes or {}) for factor in axis)

    def _factor(self, factor: str | int | Sum, sizes: Sizes) -> int:
        if isinstance(factor, str):
            return sizes.get(factor, self.dims[factor].size)
        if isinstance(factor, int):
            return factor
        return sum(self.size(part, sizes) for part in factor.parts)

    def macs(self, sizes: Sizes | None = None) -> int:
        """Multiply-accumulates of one forward pass on the traced inputs."""
        return pricing.total(self, "macs", sizes or {})

    def parameters(self, sizes: Sizes | None = None) -> int:
        """Number of parameters, tied ones once."""
        return pricing.total(self, "parameters", sizes or {})

    def volume(self, axes: tuple[Factors, ...], sizes: Sizes) -> int:
        """Number of entries of a tensor, or products, with these axes."""
        return prod(self.size(axis, sizes) for axis in axes)

    def price(self, groups: Sequence[Group], currency: str) -> Price:
        """What the units of these groups cost, in ``units``, ``parameters`` or ``macs``.

        Counted is all that a group has a part in: the products, or parameters, that carry one of its dims or weights.
        """
        return pricing.price(self, groups, currency)

    def saving(self, dim: str, currency: str) -> int:
        """What one position less of a dim saves, in ``macs`` or ``parameters``."""
        return pricing.saving(self, dim, currency)

    @cached_property
    def carriers(self) -> Mapping[str, tuple[tuple[str, int], ...]]:
        """Dim name -> every (tensor, axis) it occurs in."""
        found: dict[str, list[tuple[str, int]]] = {name: [] for name in self.dims}
        for tensor, axes in self.tensors.items():
            for i, axis in enumerate(axes):
                for name in set(named(axis)):
                    found[name].append((tensor, i))
        return {name: tuple(where) for name, where in found.items()}

    @cached_property
    def products_of(self) -> Mapping[str, tuple[int, ...]]:
        """Dim name -> every product that carries it, by its place."""
        found: dict[str, list[int]] = {name: [] for name in self.dims}
        for i, product in enumerate(self.products):
            for name in {name for axis in product.axes for name in named(axis)}:
                found[name].append(i)
        return {name: tuple(where) for name, where in found.items()}

    @cached_property
    def _summed(self) -> frozenset[tuple[str, int]]:
        return frozenset((weight.name, axis) for weight in self.weights for axis in weight.inputs)

    def members(self, *dims: str) -> tuple[Member, ...]:
        """All tensor axes in which the units of the product of these dims (outermost first) live."""
        outer = [frozenset(self.carriers[dim]) for dim in dims[:-1]]
        places = [where for where in self.carriers[dims[-1]] if all(where in others for others in outer)]
        return tuple(
            Member(
                tensor,
                (axis,),
                None if (factors := self.tensors[tensor][axis]) == dims else self._index(factors, dims),
                scored=tensor in self.trainable,
                zeroed=(tensor, axis) not in self.spared,
                reads=(tensor, axis) in self._summed,
            )
            for tensor, axis in places
        ) + tuple(
            Member(tensor, (), scored=tensor in self.trainable, unit=i)
            for modules in (self.dims[dims[-1]].modules if len(dims) == 1 else ())
            for i, module in enumerate(modules)
            for tensor in self.tensors
            if tensor.startswith(f"{module}.")
        )

    def _index(self, axis: Factors, dims: tuple[str, ...]) -> Tensor | None:
        """Positions of every unit along an axis, ``(n_units, k)``; None where unit i is position i."""
        unit = self.units(axis, dims)
        n_units = prod(self.dims[dim].size for dim in dims)
        if len(unit) == n_units and torch.equal(unit, torch.arange(n_units)):
            return None
        held = (unit >= 0).nonzero().flatten()
        return held[unit[held].argsort(stable=True)].reshape(n_units, -1)

    def units(self, axis: Factors, dims: Sequence[str]) -> Tensor:
        """For each position of an axis its unit of a product of dims, ``(size,)`` long; -1 where it has none."""
        unit = torch.zeros(self.size(axis), dtype=torch.long)
        for dim in dims:
            at = self.coordinates(axis, dim)
            unit = torch.where((unit < 0) | (at < 0), -1, unit * self.dims[dim].size + at)
        return unit

    def coordinates(self, axis: Factors, dim: str) -> Tensor:
        """For each position of an axis its coordinate along a dim, ``(size,)`` long; -1 where it has none."""
        out = torch.full((1,), -1)
        for factor in axis:
            inner = self._factor_coordinates(factor, dim)
            out = torch.maximum(out[:, None], inner[None, :]).flatten()
        return out

    def _factor_coordinates(self, factor: str | int | Sum, dim: str) -> Tensor:
        if isinstance(factor, Sum):
            return torch.cat([self.coordinates(part, dim) for part in factor.parts])
        if factor == dim:
            return torch.arange(self.dims[dim].size)
        return torch.full((self._factor(factor, {}),), -1)

    def meetings(self, *dims: str) -> tuple[tuple[Side, Side], ...]:
        """The products of two activations that are summed over the last of these dims, inside of the others."""
        return meetings.found(self, dims)

    def enclosing(self, dim: str) -> str | None:
        """The dim that this one always comes directly inside of, e.g. the KV heads of a query group; or None."""
        outer = {
            before
            for tensor, i in self.carriers[dim]
            for before, inner in _adjacent(self.tensors[tensor][i])
            if inner == dim
        }
        (only,) = outer if len(outer) == 1 else (None,)
        return only if isinstance(only, str) else None

    def freeze(self, reasons: Mapping[str, str]) -> Graph:
        """The same network with these dims frozen (name -> reason)."""
        dims = {n: replace(dim, frozen=reasons[n]) if n in reasons else dim for n, dim in self.dims.items()}
        return replace(self, dims=dims)

    def without(self, modules: Iterable[str]) -> Graph:
        """The same network where these modules are not run: their tensors and products are gone."""
        skipped = _under(modules)
        tensors = {name: axes for name, axes in self.tensors.items() if not skipped(name)}
        products = tuple(product for product in self.products if not skipped(product.module))
        return replace(self, tensors=tensors, products=products, trainable=self.trainable & tensors.keys())


def _under(modules: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name is one of these modules, or of something in one of them."""
    gone = frozenset(modules)
    return lambda name: any(path in gone for path in ancestry(name))


def ancestry(name: str) -> Iterator[str]:
    """A dotted name and what it lies in, innermost first."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def named(axis: Factors) -> Iterator[str]:
    """The names of the dims of an axis, repeated as they repeat."""
    for factor in axis:
        if isinstance(factor, str):
            yield factor
        elif isinstance(factor, Sum):
            for part in factor.parts:
                yield from named(part)


def around(axis: Factors, dim: str) -> list[str]:
    """The named factors beside a dim in one product, and around the sums that it lies in; where it is met first."""
    for factor in axis:
        parts = factor.parts if isinstance(factor, Sum) else ()
        inside = next((part for part in parts if dim in named(part)), None)
        if factor == dim or inside is not None:
            beside = [it for it in axis if isinstance(it, str) and it != dim]
            return beside if inside is None else [*beside, *around(inside, dim)]
    return []


def _adjacent(axis: Factors) -> Iterator[tuple[str | int | Sum | None, str]]:
    """Every named factor with the factor directly outside of it."""
    before: str | int | Sum | None = None
    for factor in axis:
        if isinstance(factor, Sum):
            for part in factor.parts:
                yield from _adjacent(part)
        elif isinstance(factor, str):
            yield before, factor
        before = factor
