"""A pruned transformers model as a plain ``from_pretrained`` directory, where a config alone can say its sizes.

After a uniform pruning (every layer keeps the same counts) the smaller network is a network of the same class with
another config, which ``config`` finds. A candidate that fits is proven by a forward pass.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateurs.archive import State, give_state_, read_state
from secateurs.deploy.build import Transformers
from secateurs.deploy.config import Search, is_bias
from secateurs.deploy.save import aside, copy_files
from secateurs.graph.agreement import difference
from secateurs.graph.trace import forward, state
from secateurs.types import Inputs, SecateursError


def save_pretrained(directory: str | Path, model: nn.Module, build: Transformers, example_inputs: Inputs) -> None:
    """Write a directory that ``from_pretrained`` loads without secateurs: all of it, or nothing.

    Args:
        directory: Must not exist; parents are made.
        model: A pruned transformers model.
        build: The dense network it was pruned from; its files (tokenizer, processor) lie beside the weights.
        example_inputs: For the proof.

    Raises:
        SecateursError: The directory exists or cannot be written, or no config of the class makes this network.
    """
    directory = Path(directory)
    if directory.exists() or directory.is_symlink():
        raise SecateursError(f"{directory} exists: give a directory that does not, or remove it")
    found: Any = fitted(model, build, example_inputs)
    with aside(directory) as partial:
        found.save_pretrained(partial)
        copy_files(build.files, partial)
        again = type(found).from_pretrained(partial, local_files_only=True)
        problem = difference(again, example_inputs, forward(model.cpu(), example_inputs))
        if problem:
            raise SecateursError(f"{directory} was not written: what transformers loads from it {problem}")


def fitted(model: nn.Module, build: Transformers, example_inputs: Inputs) -> nn.Module:
    """A network of the same class, made from a config alone, with the tensors of the pruned one.

    Args:
        model: A pruned transformers model; left as it is.
        build: The dense network it was pruned from.
        example_inputs: On which both must agree.

    Raises:
        SecateursError: No config was found; the line names a tensor that none of them fits.
    """
    expected = forward(model, example_inputs)
    search = Search.of(model, build)
    problem = ""
    for config in search.fits():
        made = replace(build, config=config)()
        give_state_(made, _with_zeros(read_state(search.model), made))
        made = made.to(next(model.parameters()).device).eval()
        problem = difference(made, example_inputs, expected)
        if not problem:
            return made
    raise search.refusal(problem)


def _with_zeros(held: State, made: nn.Module) -> State:
    """With zeros for the biases that come with those that layers were given."""
    new = {name: torch.zeros_like(tensor) for name, tensor in state(made) if is_bias(name, tensor.shape)}
    return replace(held, tensors={**new, **held.tensors})
