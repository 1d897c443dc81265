"""What a network answers, written down, so that another process can tell whether a reloaded one answers the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateurs.archive import read_tensors, write_tensors
from secateurs.measures.instruments.forward import call, inference
from secateurs.types import Inputs, SecateursError


def write(path: Path, model: nn.Module, inputs: Inputs) -> None:
    """Run the network and write its inputs and outputs to a safetensors file.

    Args:
        path: Overwritten where it exists.
        model: On the device of the inputs.
        inputs: By keyword or by position; what is not a tensor must be something JSON takes.

    Raises:
        SecateursError: The network answers with no tensor of floats.
        OSError: The file cannot be written.
    """
    named = dict(inputs) if isinstance(inputs, Mapping) else dict(enumerate(inputs))
    tensors = {f"input/{name}": it for name, it in named.items() if isinstance(it, Tensor)}
    others = {str(name): it for name, it in named.items() if not isinstance(it, Tensor)}
    about = {"by_keyword": isinstance(inputs, Mapping), "others": others, "order": [str(name) for name in named]}
    write_tensors(path, {**tensors, **_answers(model, inputs)}, about)


def difference(path: Path, model: nn.Module) -> float:
    """The largest absolute difference between what was written and what this network answers to the same inputs.

    Args:
        path: What ``write`` wrote.
        model: In any mode; left as it is.

    Raises:
        SecateursError: The file cannot be read, or the answers have other shapes.
    """
    tensors, about = read_tensors(path)
    values = {name: tensors.get(f"input/{name}", about["others"].get(name)) for name in about["order"]}
    then = {name: tensor for name, tensor in tensors.items() if name.startswith("output/")}
    now = _answers(model, values if about["by_keyword"] else tuple(values.values()))
    if {name: tensor.shape for name, tensor in then.items()} != {name: tensor.shape for name, tensor in now.items()}:
        raise SecateursError("the reloaded network answers in other shapes than the one that was saved")
    return max(float((then[name].double() - now[name].double()).abs().max()) for name in then)


def _answers(model: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    with inference(model), torch.no_grad():
        found = [tensor.detach().cpu().clone() for tensor in _floats(call(model, inputs)) if tensor.numel()]
    if not found:
        raise SecateursError(f"{type(model).__name__} answers with no tensor of floats")
    return {f"output/{i}": tensor for i, tensor in enumerate(found)}


def _floats(answer: Any) -> Iterator[Tensor]:
    if isinstance(answer, Tensor):
        if answer.is_floating_point():
            yield answer
    elif isinstance(answer, Mapping):
        for it in answer.values():
            yield from _floats(it)
    elif isinstance(answer, list | tuple):
        for it in answer:
            yield from _floats(it)
