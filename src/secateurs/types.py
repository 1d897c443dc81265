"""The vocabulary of secateurs: what a part receives and what it returns. Imports nothing of ours.

Every pruning method is Structure x Criterion x Allocation x Schedule x Recovery over a network of named dims. The five
axes depend on this module alone, so every combination of parts is legal by construction.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

logger = logging.getLogger("secateurs.types")
_Made = TypeVar("_Made")


class SecateursError(Exception):
    """The user's input cannot be used. Its message is one line that names the thing and the mend."""


class ReachError(SecateursError):
    """A sparsity is more than the groups bear, whatever their units score; ``most`` is the largest that they do."""

    def __init__(self, message: str, most: float) -> None:
        super().__init__(message)
        self.most = most


def rounded_down(share: float, digits: int = 4) -> float:
    """A share in few decimals, never above what it is, so that what a message or a search says can be had."""
    scale = float(10**digits)
    return math.floor(share * scale + 1e-6) / scale


def few(names: Sequence[str], most: int = 3) -> str:
    """The first of several names, and how many more there are, as a message tells them."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# --------------------------------------------------------------------------------------------- the network


@dataclass(frozen=True, slots=True)
class Dim:
    """One named axis factor of the network: what can shrink, and everything that carries it follows.

    Args:
        name: Module path and role, e.g. ``encoder.layer.3.attention.heads``.
        size: Number of positions.
        role: ``channels``, ``neurons``, ``heads``, ``kv_heads``, ``query_group``, ``head_dim``, ``width``, ...
        carriers: Names of the parameters and buffers that carry it, ``name[axis]``.
        frozen: Why it cannot shrink, or None where it can.
        multiple: An operator that it meets accepts multiples of this alone.
        least: An operator that it meets picks this many of its positions: they stay at least.
        flagged: Why the network without removed positions differs from the one that holds zeros there: a statistic is
            taken over it. None where they agree.
        modules: Like modules in lists, which Python picks by number: module i of each list goes with position i.
    """

    name: str
    size: int
    role: str
    carriers: tuple[str, ...] = ()
    frozen: str | None = None
    multiple: int = 1
    flagged: str | None = None
    least: int = 1
    modules: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """One stretch of one tensor that a group's units run over.

    Args:
        tensor: Qualified name of a parameter or buffer.
        dims: The tensor axes that, flattened in this order, the units index. ``(0,)`` is a channel's axis; all axes of
            the tensor make every weight a unit.
        index: ``(n_units, k)`` positions along the flattened ``dims``; None: unit i is position i.
        scored: Whether a criterion looks at it.
        zeroed: Whether a dropped unit is zero here before it is taken away; if not it keeps its values, as zeros would
            break the operator that reads them, and another member makes it zero.
        unit: The one unit that the whole tensor belongs to, ``dims`` being empty; None: every unit has a part in it.
        reads: Whether what the tensor multiplies goes with a unit, as with an input of a layer; not so with an output.
    """

    tensor: str
    dims: tuple[int, ...]
    index: Tensor | None = None
    scored: bool = True
    zeroed: bool = True
    unit: int | None = None
    reads: bool = True

    def cut(self, tensor: Tensor) -> Tensor:
        """Cut a tensor (or one that broadcasts like it) into rows, one per unit: ``(n_units, n_elements)``.

        A tensor that belongs to one unit is one row.
        """
        if self.unit is not None:
            return tensor.reshape(1, -1)
        rest = [d for d in range(tensor.dim()) if d not in self.dims]
        flat = tensor.permute(*self.dims, *rest).flatten(0, len(self.dims) - 1)
        flat = flat.reshape(flat.shape[0], -1)
        if self.index is None:
            return flat
        every = torch.arange(len(flat), device=self.index.device)
        if torch.equal(self.index.flatten(), every):  # one unit after the other: nothing to pick
            return flat.reshape(len(self.index), -1)
        return flat[self.index.to(flat.device)].flatten(1)

    def mask(self, keep: Tensor, shape: Sequence[int]) -> Tensor:
        """Spread ``keep`` (bool, ``(n_units,)``) over a tensor of this shape; broadcastable, True where it stays."""
        if self.unit is not None:
            return keep[self.unit].reshape([1] * len(shape))
        sizes = [shape[d] for d in self.dims]
        flat = keep
        if self.index is not None:
            flat = torch.ones(torch.Size(sizes).numel(), dtype=torch.bool, device=keep.device)
            flat[self.index.to(keep.device)[~keep].flatten()] = False
        order = sorted(range(len(self.dims)), key=lambda i: self.dims[i])
        spread = flat.reshape(sizes).permute(order)
        return spread.reshape([n if d in self.dims else 1 for d, n in enumerate(shape)])


@dataclass(frozen=True, slots=True)
class Side:
    """Where one of the two factors of a product of activations comes from, of what the units of a group are summed in.

    Args:
        tensor: Qualified name of the weight that gives it.
        axis: Of its outputs.
        positions: ``(n_units, p, k)`` along the axis: k for each of the p products side by side, as those of heads are.
    """

    tensor: str
    axis: int
    positions: Tensor = field(compare=False)


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a module's forward that stands in for a tensor which the module would have computed.

    Args:
        name: Its name.
        position: Its place among the arguments given by position.
        zero: Zeros of its shape stand in, not itself.
    """

    name: str
    position: int
    zero: bool = False


Returns = Argument | None | tuple["Returns", ...]
"""What a skipped module returns, in the form of its output; None where nobody reads it."""


@dataclass(frozen=True, slots=True)
class Skip:
    """A module that is not run: it has no parameters, and hands on what it is given.

    Args:
        module: Qualified name.
        returns: What it returns instead of its output.
    """

    module: str
    returns: Returns


@dataclass(frozen=True, slots=True)
class Residual:
    """What can be skipped such that its input is left: the f of ``x + f(x)``, or a whole block (He et al. 2016).

    Args:
        name: Path of the module, or of the largest one, that computes it.
        of: ``branch``: a single f; ``block``: all that one of several like modules in a row adds to what it is given.
        chain: Name that it shares with those like it around which the same stream leads.
        skips: The modules that are then not run.
        tensors: Their parameters and buffers.
    """

    name: str
    of: Literal["branch", "block"]
    chain: str
    skips: tuple[Skip, ...]
    tensors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Units that live or die together in every member, and compete with each other inside blocks.

    Args:
        name: Unique in the network; the key of the plan.
        n_units: Number of units.
        members: The tensor axes that hold them; aligned, unit i of every member is the same unit.
        block: Units compete inside consecutive blocks of this many; the same number is kept in each. Per layer:
            ``n_units``; per row: the row's length; N:M: M; grouped-query heads: the heads of a group.
        dims: Names of the dims the units index, outermost first; empty where units are single weights, which are
            zeroed but cannot be taken away, and where they are layers.
        multiple: What is kept of a block is a multiple of this, or the whole block.
        alike: Groups with the same word here, and blocks of as many multiples, keep the same share of each; none where
            empty.
        residuals: Where units are layers: unit i is ``residuals[i]``, and dropping it is skipping it.
        least: Of a block at least this many are kept.
        grid: Where units are single weights: sizes of the axes that they run over, outputs first; of one matrix where a
            tensor holds several.
        meetings: The products of two activations that are summed over the units, as those of queries and keys are: what
            gives the one factor, and the other.
    """

    name: str
    n_units: int
    members: tuple[Member, ...]
    block: int
    dims: tuple[str, ...] = ()
    multiple: int = 1
    alike: str = ""
    residuals: tuple[Residual, ...] = ()
    least: int = 1
    grid: tuple[int, ...] = ()
    meetings: tuple[tuple[Side, Side], ...] = ()

    @property
    def removable(self) -> bool:
        """Whether dropping units takes tensors away, or makes them smaller (else they are only zeroed)."""
        return bool(self.dims or self.residuals)

    @property
    def n_blocks(self) -> int:
        return self.n_units // self.block

    @property
    def kind(self) -> str:
        """What it has in common with the groups that keep the same share of each block; else with none."""
        return f"alike {self.alike} {Fraction(self.block, self.multiple)}" if self.alike else f"only {self.name}"


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter that multiplies an activation: linear, convolution.

    Args:
        name: Qualified parameter name.
        shape: Its shape.
        outputs: Axes that make outputs, e.g. ``(0,)`` of a linear ``(out, in)``.
        inputs: Axes that are summed over, input features first and kernel positions after.
        looked_up: Whether its rows are also looked up by number, as those of a tied embedding are.
    """

    name: str
    shape: tuple[int, ...]
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    looked_up: bool = False


class Network(Protocol):
    """A traced network as structures see it: named dims and who carries them."""

    @property
    def dims(self) -> Mapping[str, Dim]: ...

    @property
    def weights(self) -> tuple[Weight, ...]: ...

    @property
    def residuals(self) -> tuple[Residual, ...]: ...

    def members(self, *dims: str) -> tuple[Member, ...]:
        """All tensor axes in which the units of the product of these dims (outermost first) live."""
        ...

    def meetings(self, *dims: str) -> tuple[tuple[Side, Side], ...]:
        """The products of two activations that are summed over the last of these dims, inside of the others."""
        ...

    def enclosing(self, dim: str) -> str | None:
        """The dim that this one always comes directly inside of, e.g. the KV heads of a query group; or None."""
        ...


def name_before(model: nn.Module, name: str) -> str:
    """What a module or tensor of a network was called in the dense one: modules in a list may have closed up since.

    Args:
        model: The network as it is now.
        name: Qualified.
    """
    here: nn.Module | None = model
    before = []
    for step in name.split("."):
        held = {} if here is None else vars(here)
        before.append(held.get("_names_before", {}).get(step, step))
        inside = held.get("_modules")
        here = inside.get(step) if isinstance(inside, dict) else None  # a scripted module keeps them in its own way
    return ".".join(before)


# ------------------------------------------------------------------------------------------- facts and plans


@dataclass(frozen=True, eq=False, slots=True)
class Gram:
    """The second moments of what some weights multiply; one object for all weights that multiply the same.

    Args:
        matrix: ``(i, i)`` float32, the sum of ``x x^T`` over all that they multiply; left alone. May be singular.
    """

    matrix: Tensor
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, key: Hashable, make: Callable[[Tensor], _Made]) -> _Made:
        """What ``make`` makes of the matrix: at the first asking, and the same as long as this lives.

        So a factorisation is paid for once, however many weights share it.

        Args:
            key: Who asks; a solver is its own key, being frozen.
            make: From the matrix, which it leaves alone.
        """
        if key not in self._made:
            self._made[key] = make(self.matrix)
        made: _Made = self._made[key]
        return made

    def inverse(self, damping: float) -> Tensor:
        """``(G + damping mean(diag G) I)^-1``, ``(i, i)`` float32; made anew, as it takes as much memory again.

        Args:
            damping: A share, above 0; ten times as much, with a warning, until there is an inverse.

        Raises:
            SecateursError: The matrix is not finite.
        """
        if not bool(self.matrix.isfinite().all()):
            raise SecateursError("second moments of a weight's input are not finite; look for NaN in the activations")
        wide = self.matrix.to(torch.float32 if self.matrix.device.type == "mps" else torch.float64, copy=True)
        mean, share, added = max(float(wide.diagonal().mean()), 1e-30), damping, 0.0
        while True:
            wide.diagonal().add_(share * mean - added)
            factor, failed = torch.linalg.cholesky_ex(wide)
            if not int(failed):
                break
            share, added = 10 * share, share * mean
        if share > damping:
            logger.warning("singular second moments of a weight's input: damped by %g instead of %g", share, damping)
        return torch.cholesky_inverse(factor).float()

    def leverage(self, ridge: float) -> Tensor:
        """``(G (G + ridge mean(diag G) I)^-1)_ii``, ``(i,)``, not below 0: how little of each input is in the others.

        Args:
            ridge: A share, above 0.
        """
        diagonal: Tensor = (self.matrix * self.inverse(ridge)).sum(dim=1)  # both are symmetric
        return diagonal.clamp_min(0)


def check_damping(part: str, damping: float, *, zero: bool = False) -> None:
    """Refuse a share, of the mean of a diagonal, that nothing could be damped by.

    Args:
        part: Whose field it is.
        damping: A finite number above 0.
        zero: Whether 0 will do as well.

    Raises:
        SecateursError: It is another.
    """
    if not (0 < damping < float("inf") or (zero and damping == 0)):
        raise SecateursError(f"{part}: damping must be {'at least' if zero else 'above'} 0, got {damping}")


@dataclass(frozen=True, slots=True)
class Rows:
    """What a criterion sees of one scored member: aligned matrices, one row per unit.

    Args:
        weight: ``(n_units, n_elements)``.
        gradient: Same shape; of one batch's mean loss. None unless the criterion needs ``gradient``.
        activation_norm: Same shape; L2 norm, over the calibration data, of the input that each weight multiplies. None
            unless the criterion needs ``activation_norm``, and None for members that multiply no activation.
        activation_variance: Same shape; variance, over the calibration data, of the input that each weight multiplies,
            where that input goes with the unit. None as above, and for members that make the unit.
        influence: ``(n_units, 1)``; how much the block changes the stream, one minus the mean cosine of what it is
            given and what it hands on. The same for all members of a unit; None unless needed, and for what is no
            block.
        loss_increase: ``(n_units, 1)``; the mean loss without the unit, less the mean loss. The same for all members of
            a unit; None unless needed.
        grid: Where units are single weights: sizes of the axes that they run over, outputs first; of one matrix where
            several lie one after the other. Else None.
        gram: ``(f, f)``, of the input features that are the units: ``f / n_units`` of each, one unit after the other,
            so that ``weight.reshape(f, -1)`` is what they are multiplied by. None unless needed, for members that make
            the unit, and for weights that are no matrix or are not multiplied as a whole.
        gradient_gram: ``(o, o)``, of the gradients of the batches' mean losses by the outputs of that matrix. None
            unless needed, and where there is no gram.
        product_norm: ``(n_units, 1)``; of the products of two activations that are summed over the units, the L2 norm
            of what goes with the unit in one factor times that in the other, over the calibration data, summed over the
            products. The same for all members of a unit; None unless needed, and where there are no such products.
    """

    weight: Tensor
    gradient: Tensor | None = None
    activation_norm: Tensor | None = None
    activation_variance: Tensor | None = None
    influence: Tensor | None = None
    loss_increase: Tensor | None = None
    grid: tuple[int, ...] | None = None
    gram: Gram | None = None
    gradient_gram: Gram | None = None
    product_norm: Tensor | None = None


Need = Literal[
    "weight",
    "gradient",
    "activation_norm",
    "activation_variance",
    "influence",
    "loss_increase",
    "gram",
    "gradient_gram",
    "product_norm",
]


@dataclass(frozen=True, slots=True)
class Facts:
    """One yield of the pass over the calibration data.

    Args:
        gradient: By parameter name: gradient of one batch's mean loss; the parameter's shape.
        activation_norm: By parameter name: L2 norm of each input feature over all samples seen; broadcasts to the
            weight's shape.
        activation_variance: By parameter name: variance of each input feature, as above.
        influence: By group name: ``(n_units,)``, how much each block changes the stream.
        loss_increase: By group name: ``(n_units,)``, the mean loss without each unit, less the mean loss.
        gram: By ``name[axis]`` of a matrix and the axis of its inputs: their second moments. By that of its outputs:
            those of the loss's gradient, where needed.
        output_norm: By ``name[axis]`` of a matrix and the axis of its outputs: their L2 norms over all samples seen, of
            those that ``product_norm`` is made of.
    """

    gradient: Mapping[str, Tensor] = field(default_factory=dict)
    activation_norm: Mapping[str, Tensor] = field(default_factory=dict)
    activation_variance: Mapping[str, Tensor] = field(default_factory=dict)
    influence: Mapping[str, Tensor] = field(default_factory=dict)
    loss_increase: Mapping[str, Tensor] = field(default_factory=dict)
    gram: Mapping[str, Gram] = field(default_factory=dict)
    output_norm: Mapping[str, Tensor] = field(default_factory=dict)


Scores = Mapping[str, Tensor]
"""Group name -> ``(n_units,)`` float scores, higher = keep."""

Counts = Mapping[str, int]
"""Group name -> units kept in each block."""


@dataclass(frozen=True, slots=True)
class Price:
    """What is left costs, in the currency of an allocation.

    A layer between two groups costs the product of their widths, so what is saved is not the sum of what units cost.

    Args:
        unit: Group name -> what one unit of the dense network costs, all others staying.
        of: Counts -> what all that the groups have a part in costs when so much is kept.
    """

    unit: Mapping[str, float]
    of: Callable[[Counts], float]

    @classmethod
    def linear(cls, groups: Sequence[Group], unit: Mapping[str, float]) -> Price:
        """Every unit costs the same whatever else is kept."""
        blocks = {group.name: group.n_blocks for group in groups}
        return cls(unit, lambda counts: sum(unit[name] * blocks[name] * kept for name, kept in counts.items()))


@dataclass(frozen=True, slots=True)
class Plan:
    """What stays: group name -> bool ``(n_units,)``, True = kept. Plans over the same groups compose with ``&``."""

    keep: Mapping[str, Tensor]

    def __and__(self, other: Plan) -> Plan:
        names = [*self.keep, *(name for name in other.keep if name not in self.keep)]
        both = {name: self.keep.get(name, other.keep.get(name)) for name in names}
        return Plan(
            {
                name: kept & other.keep[name] if name in self.keep and name in other.keep else kept
                for name, kept in both.items()
                if kept is not None
            }
        )

    @property
    def sparsity(self) -> float:
        """Fraction of units removed, over all groups."""
        total = sum(k.numel() for k in self.keep.values())
        return 1.0 - sum(int(k.sum()) for k in self.keep.values()) / total if total else 0.0


# -------------------------------------------------------------------------------------------------- readings

How = Literal["counted", "measured", "modelled"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A number that says how it was got.

    Args:
        measure: Name of the measure, e.g. ``latency``.
        value: In ``unit``.
        unit: SI or a plain word: ``s``, ``J``, ``B``, ``MAC``, ``1`` for a fraction.
        how: Counted exactly, measured on this machine, or modelled.
        spread: 95 % interval of ``value``, where there is one.
        source: The instrument: ``nvml``, ``rapl``, ``codecarbon``, ``FlopCounterMode``, ...
        samples: Number of examples or repeats behind it.
        note: One line a reader must know, e.g. ``inconclusive``.
    """

    measure: str
    value: float
    unit: str
    how: How
    spread: tuple[float, float] | None = None
    source: str | None = None
    samples: int | None = None
    note: str | None = None


# ------------------------------------------------------------------------------------------------------ task

Batch = Any
"""Whatever the user's loader yields; only the task's own callables look inside."""

Inputs = Mapping[str, Any] | tuple[Any, ...]
"""Arguments of ``model.forward``: by keyword or by position."""


@dataclass(frozen=True)
class Task:
    """Data, loss and metric of the user, as callables.

    Splits: ``train`` heals and calibrates, ``select`` decides, ``final`` reports and is seen by nothing else.

    Args:
        name: For the report.
        example_inputs: One small batch that ``model(*inputs)`` / ``model(**inputs)`` accepts, on any device.
        splits: Name -> re-iterable of batches.
        loss: ``(model, batch) -> scalar`` mean loss; moves the batch to the model's device.
        predict: ``(model, batch) -> (outputs, targets)``; class scores ``(n, n_classes)`` and labels ``(n,)``, or
            logits ``(n_tokens, vocabulary)`` and token ids, on the model's device.
        quality: The measure that is A; a part of ``secateurs.measures`` or any Measure of the user's own.
        manifest: What to write down about the data: paths, sizes, seeds.
    """

    name: str
    example_inputs: Inputs
    splits: Mapping[str, Iterable[Batch]]
    loss: Callable[[nn.Module, Batch], Tensor]
    predict: Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]
    quality: Measure
    manifest: Mapping[str, Any] = field(default_factory=dict)


# --------------------------------------------------------------------------------------------- parts, by axis


@runtime_checkable
class Structure(Protocol):
    """What can go: the groups of a network.

    Where it finds none it may say why by a method ``why_none(network)``: a line, or an empty one. Likewise what it has
    to leave as it is, by a method ``left(network)``.
    """

    def __call__(self, network: Network) -> tuple[Group, ...]: ...


@runtime_checkable
class Criterion(Protocol):
    """What a unit is worth: the rows of a group's scored members -> ``(n_units,)`` scores, higher = keep."""

    needs: ClassVar[frozenset[Need]]

    def __call__(self, rows: Sequence[Rows]) -> Tensor: ...


@runtime_checkable
class Chooser(Protocol):
    """Which units of one group stay, decided together once it is known how many.

    Args, for a group:
        rows: Of its scored members, as a criterion sees them; what ``needs`` says is there, a gradient of one batch.
        scores: ``(n_units,)``, the criterion's, higher = keep, on the CPU; minus infinity where a unit is gone already.
        block: Units compete inside consecutive blocks of this many.
        kept: Of every block.

    Returns:
        ``(n_units,)`` bool on the CPU, exactly ``kept`` of each block, none that is gone where others do.
    """

    needs: ClassVar[frozenset[Need]]

    def __call__(self, rows: Sequence[Rows], scores: Tensor, block: int, kept: int) -> Tensor: ...


@runtime_checkable
class Basis(Protocol):
    """In which directions some dims of a network are pruned: new units, each a mixture of the old ones.

    Args, for ``b`` dims of ``n`` positions that are turned apart from each other, as those inside several heads are:
        moments: ``(b, n, n)`` float64, the sum of ``x x^T`` over what the readers multiply; may be singular.
        readers: ``(b, n, n)`` float64, the sum of ``W^T W`` over the weights ``(o, n)`` that read it.
        rotation: Whether norms are taken over the dim, so that lengths must stay.

    Returns:
        ``(b, n, n)`` float64 with an inverse, orthogonal for a rotation: row i is the new unit i in terms of the old.
    """

    def __call__(self, moments: Tensor, readers: Tensor, rotation: bool) -> Tensor: ...


@runtime_checkable
class Solver(Protocol):
    """Which entries of one weight stay, and what those that stay become: decided together, from what it multiplies.

    Args, for a weight ``(o, i)``:
        weight: ``(o, i)`` float32, what it should come to; left alone.
        gram: Of what it multiplies, ``(i, i)``; the same object for weights that multiply the same. What is lost is
            ``tr((W - W') G (W - W')^T)``.
        scores: ``(o, i)``, the criterion's, higher = keep; minus infinity where a weight is gone already.
        block: Entries compete inside consecutive blocks of this many of the flattened weight: a divisor of ``i`` (N:M,
            rows), or ``o i`` (the layer).
        kept: Of every block.

    Returns:
        ``(o, i)`` bool, exactly ``kept`` of each block, and ``(o, i)`` float32, zero where it is False.
    """

    def __call__(self, weight: Tensor, gram: Gram, scores: Tensor, block: int, kept: int) -> tuple[Tensor, Tensor]: ...


@runtime_checkable
class Allocation(Protocol):
    """How much from where: counts kept per block, such that the fraction of the price removed reaches ``sparsity``."""

    @property
    def currency(self) -> str: ...

    def __call__(self, groups: Sequence[Group], scores: Scores, sparsity: float, price: Price) -> Counts: ...


@runtime_checkable
class Schedule(Protocol):
    """When: the cumulative sparsity after each round, rising from above ``start`` to exactly ``sparsity``."""

    def __call__(self, sparsity: float, start: float = 0.0) -> tuple[float, ...]: ...


@runtime_checkable
class Recovery(Protocol):
    """How to heal: changes the model's weights in place; ``masks`` (tensor name -> bool, True = kept) stay zero.

    ``dense`` is the network before pruning, for those who heal towards it.
    """

    def __call__(
        self, model: nn.Module, masks: Mapping[str, Tensor], task: Task, dense: nn.Module | None = None
    ) -> None: ...


@runtime_checkable
class Measure(Protocol):
    """A reading of a model on a task."""

    higher_is_better: ClassVar[bool]

    def __call__(self, model: nn.Module, task: Task) -> Reading: ...
