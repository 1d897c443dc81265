"""Counts the multiply-accumulates of one forward pass: those a kernel executes, and those that zeros make needless.

torch's ``FlopCounterMode`` sees every operator that runs; the formulas it lacks are registered here, and each count is
weighed twice: by what the layout of the operands leaves out (executed), and by the zeros in the weights (nominal).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from secateurs.measures.instruments.formulas import ADDED_FIRST, POOLED, Formula, missing
from secateurs.measures.instruments.forward import call, device_of, inference, prepared
from secateurs.measures.instruments.tensors import home, nonzero, stored
from secateurs.types import Inputs, SecateursError

# Operators that may read a weight matrix and contract nothing with it: they move, reduce or normalise.
_NO_CONTRACTION = re.compile(
    r"embedding|index|gather|take|copy|clone|cat|stack|pad|roll|flip|repeat|scatter|slice|select|where|fill|view|norm|"
    r"sum|mean|max|min|upsample|_to_|resolve|nonzero|new_|_like|set_|detach|alias|tri[lu]|sort|topk|unique"
)
_PLAIN_NAMESPACES = frozenset({"aten", "prim", "prims", "profiler"})


@dataclass(frozen=True, slots=True)
class MacCount:
    """Multiply-accumulates of one forward pass.

    Args:
        executed: What the kernels do: a zero in a dense tensor is multiplied like any other number.
        nominal: What would be left if every zero weight were free.
        by_operator: Executed, by operator.
        uncounted: Operators that ran, may multiply, and have no formula.
    """

    executed: int
    nominal: int
    by_operator: Mapping[str, int]
    uncounted: tuple[str, ...]

    @property
    def missed(self) -> str:
        """What to add to a note: the operators that were not counted; empty where all were."""
        return f"; not counted: {', '.join(self.uncounted)}" if self.uncounted else ""


def count_macs(model: nn.Module, inputs: Inputs) -> MacCount:
    """Run the model once and count.

    Args:
        model: Run in evaluation mode, as it lies.
        inputs: One batch, by keyword or by position; moved to the model's device.

    Raises:
        SecateursError: The forward pass fails.
    """
    tally = _Tally(model)
    formulas = {**flop_registry, **missing()}
    weighed = {operator: _Weighed(operator, formula, tally) for operator, formula in formulas.items()}
    counter = FlopCounterMode(display=False, custom_mapping=weighed)
    inputs = prepared(inputs, device_of(model))
    with inference(model), _plain_transformer(), _Watch(tally, weighed):
        try:
            with counter:
                call(model, inputs)
        except Exception as error:
            raise SecateursError(f"the model fails on the example inputs: {error}") from error
    by_operator = {str(op): flops // 2 for op, flops in counter.get_flop_counts().get("Global", {}).items()}
    return MacCount(
        counter.get_total_flops() // 2, round(tally.nominal / 2), by_operator, tuple(sorted(tally.uncounted))
    )


@contextmanager
def _plain_transformer() -> Iterator[None]:
    """nn.TransformerEncoderLayer as single operators: its fused kernel hides what it multiplies."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Tally:
    """What is summed up over the operators of one pass."""

    def __init__(self, model: nn.Module) -> None:
        self.nominal = 0.0
        self.uncounted: set[str] = set()
        self._homes = {home(tensor) for tensor in (*model.parameters(), *model.buffers())} - {0}

    def is_weight(self, value: Any) -> bool:
        """Whether this is a matrix of the model's own, or a view into one."""
        return isinstance(value, Tensor) and value.dim() >= 2 and value.numel() > 0 and home(value) in self._homes

    def needed(self, operator: str, operands: list[Tensor]) -> float:
        """The share of an operator's work that meets no zero weight; zeros of two weights are taken as independent.

        What has a sparse layout is a weight wherever it comes from.
        """
        weights = [o for o in operands if self.is_weight(o) or o.layout != torch.strided]
        if operator in POOLED and weights:
            return sum(map(nonzero, weights)) / sum(weight.numel() for weight in weights)
        return prod(nonzero(weight) / weight.numel() for weight in weights)


class _Weighed:
    """A formula that adds up the nominal count beside the executed one.

    ``_get_raw`` is how FlopCounterMode is told to pass tensors, not shapes.
    """

    _get_raw: ClassVar[bool] = True

    def __init__(self, operator: Any, formula: Formula, tally: _Tally) -> None:
        self._name = str(operator).rpartition(".")[2]
        self._formula = formula
        self._tally = tally

    def __call__(self, *args: Any, **kwargs: Any) -> int:
        work = self._formula(*args, **kwargs)
        factors = args[1:] if self._name in ADDED_FIRST else args
        operands = [leaf for leaf in tree_leaves(factors) if isinstance(leaf, Tensor)]
        self._tally.nominal += work * self._tally.needed(self._name, operands)
        return round(work * prod(stored(operand) / max(1, operand.numel()) for operand in operands))


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operators that may multiply and are in no formula."""

    supports_higher_order_operators = True

    def __init__(self, tally: _Tally, formulas: Mapping[Any, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tally = tally
        self._formulas = formulas

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "_overloadpacket", func) not in self._formulas and self._may_contract(func, args):
            self._tally.uncounted.add(str(func).removesuffix(".default"))
        return func(*args, **(kwargs or {}))

    def _may_contract(self, func: Any, args: Any) -> bool:
        if getattr(func, "namespace", "") not in _PLAIN_NAMESPACES:
            return True
        name = str(func).split(".")[1]
        if "attention" in name or "rnn" in name:
            return True
        if torch.Tag.pointwise in func.tags or func.is_view or _NO_CONTRACTION.search(name):
            return False
        return any(self._tally.is_weight(leaf) for leaf in tree_leaves(args))
