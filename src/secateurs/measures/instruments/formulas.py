"""How many operations the operators do that torch's own registry leaves out.

Each formula takes an operator's arguments and returns floating point operations, two for each multiply-accumulate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

Formula = Callable[..., int]

# Registered operators whose first argument is added, not multiplied.
ADDED_FIRST = frozenset({"addmm", "addmv", "addbmm", "baddbmm", "_sparse_addmm", "_addmm_activation"})

# Registered operators that pass each of several weights once over all tokens: their operations add up.
POOLED = frozenset({"mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn"})


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Scaled dot product attention; causal and masked positions count, grouped KV heads serve all their queries."""
    from torch.utils.flop_counter import sdpa_flop_count

    return int(sdpa_flop_count(query.shape, key.shape, value.shape))  # type: ignore[no-untyped-call]


def _grouped_mm(x: Tensor, y: Tensor, *_: Any, **__: Any) -> int:
    """Rows of x by groups, each against its own matrix of y: every row meets one matrix."""
    if x.dim() == 3 and y.dim() == 3:
        return 2 * x.numel() * y.shape[-1]
    return 2 * x.shape[-2] * x.shape[-1] * y.shape[-1]


def _matrix_vector(matrix: Tensor, vector: Tensor, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _added_matrix_vector(added: Tensor, matrix: Tensor, vector: Tensor, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _dot(x: Tensor, y: Tensor, *_: Any, **__: Any) -> int:
    return 2 * x.numel()


def _added_product(added: Tensor, x: Tensor, y: Tensor, *_: Any, **__: Any) -> int:
    return 2 * x.numel() * y.shape[-1]


def _product(x: Tensor, y: Tensor, *_: Any, **__: Any) -> int:
    return 2 * x.numel() * y.shape[-1]


def _linear(x: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return 2 * x.numel() * weight.shape[0]


def _conv_tbc(x: Tensor, weight: Tensor, *_: Any, out_val: Tensor, **__: Any) -> int:
    return 2 * weight.numel() * prod(out_val.shape[:2])


def _trilinear(*args: Any, **_: Any) -> int:
    """nn.Bilinear: one multiply-accumulate for each element of the product of all three, as in the sum it computes."""
    tensors, expanded = args[:3], args[3:6]
    shapes = (_unsqueezed(t, axes) for t, axes in zip(tensors, expanded, strict=True))
    return 2 * prod(np.broadcast_shapes(*shapes))


def _unsqueezed(tensor: Tensor, axes: list[int]) -> tuple[int, ...]:
    shape = list(tensor.shape)
    for axis in sorted(axes):
        shape.insert(axis, 1)
    return tuple(shape)


def _one_layer_rnn(x: Tensor, w_input: Tensor, w_hidden: Tensor, *_: Any, **__: Any) -> int:
    """One direction of one layer: every token passes both matrices."""
    return 2 * (x.numel() // x.shape[-1]) * (w_input.numel() + w_hidden.numel())


def _whole_rnn(x: Tensor, weights: list[Tensor], *_: Any, **__: Any) -> int:
    """All layers and directions: every token passes every matrix."""
    return 2 * (x.numel() // x.shape[-1]) * sum(w.numel() for w in weights if w.dim() == 2)


def missing() -> Mapping[Any, Formula]:
    """Operator -> formula, for those of this torch (and of libraries loaded) that its registry does not count."""
    named: dict[str, Formula] = {
        "aten::_scaled_dot_product_flash_attention_for_cpu": _attention,
        "aten::_scaled_dot_product_fused_attention_overrideable": _attention,
        "aten::_grouped_mm": _grouped_mm,
        "transformers::grouped_mm_fallback": _grouped_mm,
        "aten::mv": _matrix_vector,
        "aten::addmv": _added_matrix_vector,
        "aten::dot": _dot,
        "aten::vdot": _dot,
        "aten::addbmm": _added_product,
        "aten::_addmm_activation": _added_product,
        "aten::_sparse_addmm": _added_product,
        "aten::_int_mm": _product,
        "aten::mkldnn_linear": _linear,
        "aten::conv_tbc": _conv_tbc,
        "aten::_trilinear": _trilinear,
        "aten::mkldnn_rnn_layer": _one_layer_rnn,
        "aten::_cudnn_rnn": _whole_rnn,
        "aten::miopen_rnn": _whole_rnn,
    }
    found = {}
    for name, formula in named.items():
        namespace, _, operator = name.partition("::")
        packet = getattr(getattr(torch.ops, namespace), operator, None)
        if packet is not None:
            found[packet] = formula
    return found
