"""Inputs that a network can be run on where the user gave none: of a stated shape, or from its own config."""

from __future__ import annotations

import re
from inspect import signature
from typing import Any

import torch
from torch import nn

from secateurs.types import Inputs, SecateursError

MEND = "give --shape, e.g. 1x3x32x32, or --task"


def of_shape(shape: str) -> Inputs:
    """Random floats of these shapes, one tensor for each positional argument of the forward.

    Args:
        shape: ``1x3x32x32``; several arguments are separated by commas.

    Raises:
        SecateursError: Not a shape.
    """
    parts = shape.lower().replace(" ", "").split(",")
    if not all(re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", part) for part in parts):
        raise SecateursError(f"'{shape}' is not a shape; write sizes of 1 or more joined by x, e.g. 1x3x32x32")
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn([int(n) for n in part.split("x")], generator=generator) for part in parts)


def of_config(model: nn.Module, mend: str = MEND) -> Inputs:
    """What a transformers model says about its own inputs.

    Args:
        model: Any network.
        mend: What the user can do where it says nothing.

    Raises:
        SecateursError: It says nothing.
    """
    config: Any = getattr(model, "config", None)
    dummies: Any = getattr(model, "dummy_inputs", None)
    main = getattr(model, "main_input_name", None)
    if dummies is not None and main == "input_ids":
        # They hold token ids below 8; a vocabulary may be smaller still.
        largest = (_first(config, "vocab_size") or 8) - 1
        if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in signature(model.forward).parameters:
            dummies = {"decoder_input_ids": dummies[main], **dummies}
        return {name: it if it.is_floating_point() else it.clamp(max=largest) for name, it in dummies.items()}
    side = _first(config, "image_size")
    if main == "pixel_values" and side is not None:
        height, width = side if isinstance(side, list | tuple) else (side, side)
        channels = _first(config, "num_channels") or 3
        return {main: torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(0))}
    raise SecateursError(f"{type(model).__name__} does not say what its inputs are; {mend}")


def _first(config: Any, name: str) -> Any:
    """A field of a config, or of the one part of it that has the field."""
    if hasattr(config, name):
        return getattr(config, name)
    parts = [
        part for part in getattr(config, "__dict__", {}).values() if hasattr(part, "to_dict") and hasattr(part, name)
    ]
    return getattr(parts[0], name) if len(parts) == 1 else None
