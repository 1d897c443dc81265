"""One forward pass under known conditions: where the model lies, at what batch size, with nothing left changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from secateurs.types import Inputs, SecateursError


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter or buffer; the CPU where it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def inference(*models: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients; the mode of every module and the random state are put back."""
    modes = {module: module.training for model in models for module in model.modules()}
    devices = sorted({d.index or 0 for d in map(device_of, models) if d.type == "cuda"})
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            for model in models:
                model.eval()
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run torch's CPU operators on ``count`` threads; the former number is put back."""
    if count < 1:
        raise SecateursError(f"threads is {count}: give at least 1")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def call(model: nn.Module, inputs: Inputs) -> Any:
    """Call the model on inputs given by keyword or by position."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def prepared(inputs: Inputs, device: torch.device, batch_size: int | None = None) -> Inputs:
    """Move the inputs to a device and, where asked, to another batch size.

    A tensor belongs to the batch if its first dimension equals that of the first tensor; it is repeated or cut along
    it. Everything else is passed on as it is.

    Args:
        inputs: By keyword or by position.
        device: Where the model lies.
        batch_size: Wanted size of the batch; None leaves it.

    Raises:
        SecateursError: ``batch_size`` is below 1, or no input is a tensor with a batch dimension.
    """
    values = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
    if batch_size is not None:
        values = _resized(values, batch_size)
    moved = [v.to(device) if isinstance(v, Tensor) else v for v in values]
    return dict(zip(inputs, moved, strict=True)) if isinstance(inputs, Mapping) else tuple(moved)


def _resized(values: list[Any], batch_size: int) -> list[Any]:
    if batch_size < 1:
        raise SecateursError(f"batch_size is {batch_size}: give at least 1")
    held = next((v.shape[0] for v in values if isinstance(v, Tensor) and v.dim()), 0)
    if not held:
        raise SecateursError("the example inputs hold no tensor with a batch dimension: leave batch_size out")
    index = torch.arange(batch_size) % held
    return [
        v.index_select(0, index.to(v.device)) if isinstance(v, Tensor) and v.dim() and v.shape[0] == held else v
        for v in values
    ]


def shapes(inputs: Inputs) -> str:
    """The shapes of the tensors among the inputs, for a note: ``(1, 3, 32, 32)``."""
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    return ", ".join(str(tuple(v.shape)) for v in values if isinstance(v, Tensor))


def rows_in(batch: Any) -> int:
    """How many examples a batch holds: the length of the first tensor found in it, searched depth first; else 1."""
    found = _first_tensor(batch)
    return int(found.shape[0]) if found is not None else 1


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value if value.dim() else None
    inside: Sequence[Any] = ()
    if isinstance(value, Mapping):
        inside = list(value.values())
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        inside = value
    return next((found for item in inside if (found := _first_tensor(item)) is not None), None)
