"""Values by which a tensor's entries can be told apart, and what two networks' outputs differ by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

SAME = 1e-4
"""Largest difference of two networks that compute the same, relative to the largest output, in single precision."""


def distinct_(model: nn.Module) -> nn.Module:
    """Give every entry of a parameter a value of its own, of the size that training leaves; evaluation mode.

    An entry that is still there after pruning then names its place, and no two are equal in the order of a criterion.
    """
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if not tensor.is_floating_point():
                continue
            if name.endswith("running_var"):
                tensor.copy_(0.5 + _spread(tensor))
            elif name.endswith("running_mean"):
                tensor.copy_(_normal(tensor, 0.2))
            elif tensor.requires_grad and tensor.dim() == 1:
                tensor.add_(_normal(tensor, 0.1))
            elif tensor.requires_grad and tensor.dim():
                tensor.copy_(_normal(tensor, 1.2 / tensor[0].numel() ** 0.5))
    return model.eval()


def _spread(tensor: Tensor) -> Tensor:
    """Numbers between 0 and 1 at equal distances, in random order."""
    n = tensor.numel()
    return ((torch.randperm(n) + 0.5) / n).reshape(tensor.shape)


def _normal(tensor: Tensor, deviation: float) -> Tensor:
    return torch.special.ndtri(_spread(tensor).double()).mul(deviation).to(tensor.dtype)


def tensors(out: Any) -> Iterator[Tensor]:
    """The tensors that a network returns, caches left out."""
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, Mapping):
        yield from tensors(tuple(out.values()))
    elif isinstance(out, tuple | list):
        for item in out:
            yield from tensors(item)
    elif is_dataclass(out):
        yield from tensors([getattr(out, entry.name) for entry in fields(out)])


def call(model: nn.Module, inputs: Any) -> tuple[Tensor, ...]:
    """One forward pass; the floating-point outputs, or all where there are none."""
    torch.manual_seed(1)
    found = tuple(tensors(model(**inputs) if isinstance(inputs, dict) else model(*inputs)))
    return tuple(t for t in found if t.is_floating_point()) or found


def difference(mine: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest difference of any output, relative to the largest value of that output.

    Raises:
        ValueError: The outputs are of other shapes, or finite elsewhere.
    """
    if [t.shape for t in mine] != [t.shape for t in wanted]:
        shapes = [tuple(t.shape) for t in mine], [tuple(t.shape) for t in wanted]
        raise ValueError(f"outputs of shapes {shapes[0]}, not {shapes[1]}")
    worst = 0.0
    for a, b in zip(mine, wanted, strict=True):
        finite = b.isfinite()
        if not torch.equal(finite, a.isfinite()):
            raise ValueError("outputs are finite where those wanted are not")
        if bool(finite.any()):
            scale = float(b[finite].double().abs().max()) or 1.0
            worst = max(worst, float((a - b)[finite].double().abs().max()) / scale)
    return worst


def removed(dense: nn.Module, small: nn.Module) -> float:
    """The fraction of parameters that is gone."""
    before, after = (sum(p.numel() for p in model.parameters()) for model in (dense, small))
    return 1 - after / before


def gradients(model: nn.Module, inputs: Any) -> bool:
    """Whether a backward pass gives finite gradients, to one parameter at least."""
    with torch.enable_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        outputs = [t[t.isfinite()] for t in call(model, inputs) if t.requires_grad]
        torch.stack([t.square().mean() for t in outputs if t.numel()]).sum().backward()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    return bool(found) and all(bool(g.isfinite().all()) for g in found)
