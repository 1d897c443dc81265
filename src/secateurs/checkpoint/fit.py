"""Whether what is stored is what a network needs: told by names and shapes, before a single weight is read."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateurs.checkpoint.conversion import conversions
from secateurs.checkpoint.gguf import Gguf
from secateurs.checkpoint.shards import Shards
from secateurs.types import SecateursError, few

Maker = Callable[[], dict[str, Tensor]]
Shape = tuple[int, ...]
log = logging.getLogger("secateurs.checkpoint")


@dataclass(frozen=True)
class Matched:
    """What is stored, by the names of the network.

    Args:
        makers: Name -> what reads it, and whatever is made together with it.
        shapes: Of what they make.
        dtypes: Of which type its numbers are stored; none from GGUF.
        strange: Stored names that the network has no place for.
    """

    makers: Mapping[str, Maker]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype]
    strange: Sequence[str]


def matched(model: nn.Module, source: Shards | Gguf) -> Matched:
    """What is stored by the names of the network; headers alone are looked at.

    Args:
        model: On any device.
        source: What is stored.

    Raises:
        SecateursError: Of a type that is not read, or that cannot be put together as the network has it.
    """
    return _of_gguf(model, source) if isinstance(source, Gguf) else _of_shards(model, source)


def _of_shards(model: Any, source: Shards) -> Matched:
    found = conversions(model, source.tensors)
    model._weight_conversions = list(found.rules)
    makers = {name: partial(made, model, source.read) for name, made in found.made.items()}
    dtypes = {name: source.dtype(next(iter(made.sources))) for name, made in found.made.items()}
    together = {id(made): made for made in found.made.values()}.values()
    shapes = {name: tuple(it.shape) for made in together for name, it in made(model, source.blank).items()}
    return Matched(makers, shapes, dtypes, found.strange)


def _of_gguf(model: nn.Module, source: Gguf) -> Matched:
    """Shapes are told where the number of entries is another: some are laid out anew when they are read."""
    made, wanted = source.makers(model), model.state_dict()
    shapes = {name: it.shape for name, it in made.items() if prod(it.shape) != wanted[name].numel()}
    used = {tensor.name for it in made.values() for tensor in it.tensors}
    return Matched(made, shapes, {}, [name for name in source.names if name not in used])


def check(model: nn.Module, path: Path, held: Iterable[str], shapes: Mapping[str, Shape]) -> None:
    """Refuse weights that are not this network's.

    Args:
        model: With parameters on the meta device.
        path: Where the weights are, for the message.
        held: Names of the parameters that can be made, a tied one by its first name.
        shapes: Name in the network, tied ones too -> the shape that will be made.

    Raises:
        SecateursError: A parameter is not stored, or has another shape.
    """
    there = set(held)
    missing = [name for name, _ in model.named_parameters() if name not in there]
    if missing:
        raise SecateursError(
            f"{path} does not hold {few(missing)} ({len(missing)} parameters of {type(model).__name__} are missing): "
            "its weights belong to another config, or to another version of transformers"
        )
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    odd = [name for name, shape in shapes.items() if name in wanted and shape != wanted[name]]
    if odd:
        others = f" (and so {len(odd) - 1} more)" if len(odd) > 1 else ""
        raise SecateursError(
            f"{path}: {odd[0]} is {shapes[odd[0]]}, by its config the network has {wanted[odd[0]]}{others}: "
            "config and weights belong to different networks"
        )


def check_strange(model: nn.Module, path: Path, known: Iterable[str], strange: Sequence[str]) -> None:
    """Refuse layers beyond those of the config; say what else there is that the network has no place for.

    What transformers knows to be of no use, and buffers that are computed, are passed over in silence.

    Args:
        model: The network of the config.
        path: Where the weights are, for the messages.
        known: Stored names that the network has a place for.
        strange: Those that it has none for.

    Raises:
        SecateursError: A tensor is named like another of the network but for a number.
    """
    patterns = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    computed = {name for name, _ in model.named_buffers()}
    left = [it for it in strange if it not in computed and not any(re.search(pattern, it) for pattern in patterns)]
    forms = {_form(name) for name in known}
    beyond = [name for name in left if _form(name) in forms]
    if beyond:
        raise SecateursError(
            f"{path} holds {few(beyond)}, and its config asks for fewer of them: it belongs to another "
            "network, or its number of layers was changed; put it right"
        )
    if left:
        log.warning("%s holds %s, which %s has no place for: left out", path, few(left), type(model).__name__)


def _form(name: str) -> str:
    """A name without its numbers."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "#", name)
