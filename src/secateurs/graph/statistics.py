"""The reference that a shrunk network is proven against, where it has lost positions of dims that are flagged.

Zeros in place of what is gone change a mean, a norm or a softmax; the smaller network takes it over what is left. The
reference runs the masked network under the tracer's rules, so that each operator's axes are known in terms of the
network's dims, and lets the operators that take a statistic see the positions that stay, and no others: the very
operator runs on these, and its result is put back among zeros. All other operators run as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from secateurs.graph.axes import Axis, Node, find
from secateurs.graph.labels import Label
from secateurs.graph.naming import factors_of
from secateurs.graph.network import Factors, Graph, Sum
from secateurs.graph.precision import Pass
from secateurs.graph.rules import contraction, reduction, rule_for
from secateurs.graph.trace import Call, Origin, Trace, Tracer, follow, forward, state
from secateurs.listed import like_modules
from secateurs.types import Group, Inputs, Plan
from secateurs.vocabulary import GONE

Places = Mapping[int, Tensor]
"""Dim of a tensor -> the positions that stay; those that lose some."""

Correction: TypeAlias = Callable[[Call, "Corrected"], Any]


def reference(
    model: nn.Module, inputs: Inputs, network: Graph, groups: Sequence[Group], plan: Plan
) -> tuple[Tensor, ...]:
    """The outputs of a masked network, with statistics over the positions that stay.

    Args:
        model: Masked; left as it is. A plain forward pass where the plan drops nothing of a flagged dim.
        inputs: Arguments of its forward.
        network: The trace of the dense network.
        groups: What the plan speaks of.
        plan: What stays.
    """
    return passing(network, groups, plan)(model, inputs)


def passing(network: Graph, groups: Sequence[Group], plan: Plan) -> Pass:
    """The forward pass of ``reference``."""
    scorers = {vocabulary.dim: vocabulary.outputs for vocabulary in network.vocabularies}
    keep = {dims: stay for dims, stay in staying(groups, plan).items() if dims[-1] not in scorers}
    run = forward
    if any(network.dims[dim].flagged for dims in keep for dim in dims):
        run = partial(_corrected, network, keep)
    scored = {
        module: ~group.members[0].mask(plan.keep[group.name].cpu(), [network.dims[dim].size])
        for group in _losing(groups, plan)
        for dim in group.dims
        for module in scorers.get(dim, ())
    }
    return partial(_unscored, scored, run) if scored else run


def _corrected(
    network: Graph, keep: Mapping[tuple[str, ...], Tensor], model: nn.Module, inputs: Inputs
) -> tuple[Tensor, ...]:
    return follow(Corrected(model, network, keep), model, inputs)


def _unscored(gone: Mapping[str, Tensor], run: Pass, model: nn.Module, inputs: Inputs) -> tuple[Tensor, ...]:
    """A forward pass in which tokens that are gone have no score, as in the shrunk network."""

    def without(tokens: Tensor) -> Callable[..., Tensor]:
        return lambda module, args, out: out.masked_fill(tokens.to(out.device), GONE)

    hooks = [model.get_submodule(name).register_forward_hook(without(tokens)) for name, tokens in gone.items()]
    try:
        return run(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()


def differs(network: Graph, groups: Sequence[Group], plan: Plan) -> bool:
    """Whether masked and shrunk differ under a plan: it drops something of a flagged dim."""
    return any(network.dims[dim].flagged for group in _losing(groups, plan) for dim in group.dims)


def staying(groups: Iterable[Group], plan: Plan) -> dict[tuple[str, ...], Tensor]:
    """The dims of each group that loses something -> which of its units stay."""
    return {group.dims: plan.keep[group.name].cpu() for group in _losing(groups, plan)}


def _losing(groups: Iterable[Group], plan: Plan) -> list[Group]:
    return [g for g in groups if g.dims and g.name in plan.keep and not bool(plan.keep[g.name].all())]


class Corrected(Tracer):  # type: ignore[no-untyped-call]  # torch's metaclass hook has no annotations
    """A tracer to which the dims are known; operators that take a statistic see the positions that stay.

    Args:
        model: The network that will run; its parameters are labelled with their dims.
        network: The trace of it.
        keep: Dims of a group -> which of its units stay.
    """

    def __init__(self, model: nn.Module, network: Graph, keep: Mapping[tuple[str, ...], Tensor]) -> None:
        super().__init__(Trace(), rule_for)
        self.trace.picks.listed = frozenset(map(len, like_modules(model)))
        self.network = network
        self.keep = keep
        self.sizes = {dims[-1]: int(k.sum()) * network.dims[dims[-1]].size // len(k) for dims, k in keep.items()}
        self.nodes = {name: Node(dim.size) for name, dim in network.dims.items()}
        for name, tensor in state(model):
            axes = tuple(self._axis(axis) for axis in network.tensors[name])
            self.trace.labels[tensor] = Label(axes, fixed=True)
            self.trace.origins[tensor] = Origin.of(name, tensor)

    def compute(self, call: Call) -> Any:
        """What the operator gives, a statistic corrected."""
        correction = CORRECTIONS.get(call.name)
        return super().compute(call) if correction is None else correction(call, self)

    def places(self, call: Call, tensor: Tensor, dims: Iterable[int]) -> Places:
        """Which of these dims of a tensor lose positions, and what stays of them."""
        axes = call.axes(tensor)
        return {d: stay for d in dims if (stay := self._stay(self.named(axes[d]))) is not None}

    def named(self, axis: Axis) -> Factors:
        """An axis in terms of the network's dims."""
        names = {find(node): name for name, node in self.nodes.items()}
        return factors_of(axis, names)

    def _stay(self, named: Factors) -> Tensor | None:
        gone = torch.zeros(self.network.size(named), dtype=torch.bool)
        for dims, keep in self.keep.items():
            unit = self.network.units(named, dims)
            gone |= (unit >= 0) & ~keep[unit]
        return (~gone).nonzero().flatten() if bool(gone.any()) else None

    def _axis(self, axis: Factors) -> Axis:
        return tuple(self._node(factor) for factor in axis)

    def _node(self, factor: str | int | Sum) -> Node:
        if isinstance(factor, str):
            return self.nodes[factor]
        if isinstance(factor, int):
            return Node(factor)
        node = Node(self.network.size((factor,)))
        node.parts = [self._axis(part) for part in factor.parts]
        return node


# -------------------------------------------------------------------------------------------------- corrections


def _cut(tensor: Tensor, where: Places) -> Tensor:
    for d, stay in where.items():
        tensor = tensor.index_select(d, stay.to(tensor.device))
    return tensor


def placed(tensor: Tensor, where: Places, shape: Sequence[int]) -> Tensor:
    """Zeros of this shape with the tensor at the positions that stay; a dim that broadcasts is left to do so."""
    for d, stay in where.items():
        if tensor.shape[d] == len(stay):
            whole = tensor.new_zeros([*tensor.shape[:d], shape[d], *tensor.shape[d + 1 :]])
            tensor = whole.index_copy_(d, stay.to(tensor.device), tensor)
    return tensor


def reduced(call: Call, it: Corrected) -> Any:
    """Means, variances, maxima: over the positions that stay. Where the maximum is, by its number in the whole."""
    source = call.inputs()[0]
    dims = reduction.reduced_dims(call, source)
    where = it.places(call, source, dims)
    out = call.func(_cut(source, where), *call.args[1:], **call.kwargs)
    if len(dims) > 1 or not where or not reduction.numbered(call):
        return out
    *values, numbers = [out] if isinstance(out, Tensor) else out
    numbers = where[dims[0]].to(numbers.device)[numbers]
    return (*values, numbers) if values else numbers


def along(call: Call, it: Corrected) -> Any:
    """Softmax and cumulative sums: zero at what is gone. The best of what stays, by their numbers in the whole."""
    source = call.inputs()[0]
    dim = reduction.seen_whole(call, source)
    where = it.places(call, source, [dim])
    out = call.func(_cut(source, where), *call.args[1:], **call.kwargs)
    if isinstance(out, Tensor):
        return placed(out, where, source.shape)
    values, numbers = out
    return values, where[dim].to(numbers.device)[numbers] if where else numbers


def layer_norm(call: Call, it: Corrected) -> Any:
    """Layer and RMS norm: statistics, scale and shift of the positions that stay."""
    source, shape, *rest = call.args
    first = source.dim() - len(shape)
    where = it.places(call, source, range(first, source.dim()))
    inner = {d - first: at for d, at in where.items()}
    rest = [_cut(item, inner) if isinstance(item, Tensor) else item for item in rest]
    small = _cut(source, where)
    out, *statistics = call.func(small, list(small.shape[first:]), *rest, **call.kwargs)
    return placed(out, where, source.shape), *statistics


def group_norm(call: Call, it: Corrected) -> Any:
    """Statistics inside each group over its channels that stay; the same number stays in each group that does."""
    source, weight, bias, batch, channels, pixels, groups, eps = call.args
    where = it.places(call, source, [1])
    if not where:
        return call.func(*call.args, **call.kwargs)
    held = (where[1] // (channels // groups)).bincount(minlength=groups).nonzero().flatten()
    affine = [tensor if tensor is None else _cut(tensor, {0: where[1]}) for tensor in (weight, bias)]
    out, *statistics = call.func(_cut(source, where), *affine, batch, len(where[1]), pixels, len(held), eps)
    alive = {1: held}
    return placed(out, where, source.shape), *(placed(s, alive, (batch, groups)) for s in statistics)


def grouped(call: Call, it: Corrected) -> Any:
    """Stretches of rows for the matrices that stay; the rows in the memory of a matrix stay where they are."""
    rows, matrices, *rest = call.args
    where = it.places(call, matrices, [0])
    flipped = matrices.stride(-1) != 1
    small = _cut(matrices.transpose(-2, -1), where).transpose(-2, -1) if flipped else _cut(matrices, where)
    rest = [_cut(item, where) if isinstance(item, Tensor) else item for item in rest]
    kwargs = {key: _cut(item, where) if isinstance(item, Tensor) else item for key, item in call.kwargs.items()}
    return call.func(rows, small, *rest, **kwargs)


def attention(call: Call, it: Corrected) -> Any:
    """The default scale follows the size of a head."""
    kwargs = dict(call.kwargs)
    if kwargs.get("scale") is None:
        kwargs["scale"] = it.network.size(it.named(call.axes(call.args[0])[3]), it.sizes) ** -0.5
    return call.func(*call.args, **kwargs)


CORRECTIONS: MappingProxyType[str, Correction] = MappingProxyType(
    {f"aten.{name}": reduced for name in reduction.STATISTICS.split()}
    | {f"aten.{name}": reduced for name in reduction.NORMS.split()}
    | {f"aten.{name}": along for name in reduction.ALONG.split()}
    | {f"aten.{name}": layer_norm for name in reduction.LAYER_NORMS.split()}
    | {"aten.native_group_norm": group_norm}
    | {"aten._grouped_mm": grouped, "transformers.grouped_mm_fallback": grouped}
    | {f"aten._scaled_dot_product_{name}": attention for name in contraction.ATTENTION.split()}
)
