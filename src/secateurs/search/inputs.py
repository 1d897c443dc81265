"""What a search depends on: checked before any work, and written down so that only the same search is continued."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from secateurs.archive import plain, read_state
from secateurs.recipe import Recipe
from secateurs.types import SecateursError, Task

if TYPE_CHECKING:
    from secateurs.search.algorithm1 import Algorithm1


def sparsity_of(recipe: Recipe, p: float | None) -> float | None:
    """The one sparsity to evaluate: the user's, or that of a pattern which allows no other; None leaves it to search.

    Raises:
        SecateursError: It is outside (0, 1), or the recipe cannot give it.
    """
    fixed = [getattr(each, "sparsity", None) for each in recipe.structure]
    if p is None:
        p = next((each for each in fixed if each is not None), None)
    if p is not None:
        if not 0 < p < 1:
            raise SecateursError(f"p must be in (0, 1), got {p:g}; it is the fraction removed, such as 0.5")
        recipe.check(p)
    return p


def inputs_of(algorithm: Algorithm1, model: nn.Module, task: Task, recipe: Recipe, p: float | None) -> dict[str, Any]:
    """Everything that changes which networks a search makes; how long it measures, and what it prefers, does not.

    Raises:
        SecateursError: A weight is not finite.
    """
    return {
        "epsilon": algorithm.epsilon,
        "confidence": algorithm.confidence,
        "p": p,
        "start": algorithm.start,
        "tolerance": algorithm.tolerance,
        "seed": algorithm.seed,
        "recipe": recipe.to_yaml(),
        "task": task.name,
        "data": plain(task.manifest),
        "quality": _words(task.quality),
        "weights": fingerprint(model),
    }


def _words(part: object) -> str:
    return repr(part) if dataclasses.is_dataclass(part) else f"{type(part).__module__}.{type(part).__qualname__}"


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of every tensor.

    Raises:
        SecateursError: A parameter is not finite, or a buffer holds NaN; a mask in one may be infinite.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not bool(parameter.isfinite().all()):
            raise SecateursError(f"{name} holds NaN or infinite weights: give a model whose weights are finite")
    for name, buffer in model.named_buffers():
        if bool(buffer.isnan().any()):
            raise SecateursError(f"buffer {name} holds NaN: give a model whose buffers are numbers")
    found = hashlib.sha256()
    for name, tensor in read_state(model).tensors.items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
