"""What an architecture is, and what several lists share: small configurations, inputs of any batch and length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Tensor] | tuple[Any, ...]
VOCABULARY, LABELS = 97, 5


@dataclass(frozen=True)
class Architecture:
    """A network of the list.

    Args:
        family: Where it stands in the table.
        build: Makes it, with the values of the library's own initialisation.
        inputs: Of a batch size and a length; networks of images take no notice of the length.
        attention: Whether it has attention, so that heads should go.
    """

    family: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int, int], Inputs]
    attention: bool = True


def made(config: str, model: str, **settings: Any) -> nn.Module:
    """A network of the transformers library from a small configuration."""
    import transformers

    network: nn.Module = getattr(transformers, model)(configured(config, **settings))
    return network


def configured(config: str, **settings: Any) -> Any:
    """A configuration; one inside it is written ``{"config": "ResNetConfig", ...}``."""
    import transformers

    inside = {k: configured(**v) for k, v in settings.items() if isinstance(v, dict) and "config" in v}
    return getattr(transformers, config)(**settings | inside)


def species(kind: str, task: str, **settings: Any) -> Callable[[], nn.Module]:
    """``BertConfig`` and ``BertForMaskedLM`` of ``Bert`` and ``ForMaskedLM``."""
    return partial(made, f"{kind}Config", f"{kind}{task}", **settings)


class Written(nn.Module):
    """Layers by name, and a forward pass over them."""

    def __init__(self, run: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.run = run

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def torch_nets(
    inputs: Callable[[int, int], Inputs], *builders: Callable[[], nn.Module], attention: bool = False
) -> dict[str, Architecture]:
    """Networks of torch.nn by the names of the functions that make them."""
    return {build.__name__: Architecture("torch.nn", build, inputs, attention) for build in builders}


# -------------------------------------------------------------------------------------------------------- inputs


def text(batch: int, length: int) -> Inputs:
    ids = torch.randint(3, VOCABULARY, (batch, length))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def tokens(batch: int, length: int) -> Inputs:
    return {"input_ids": torch.randint(3, VOCABULARY, (batch, length))}


def causal(batch: int, length: int) -> Inputs:
    return {**text(batch, length), "use_cache": False}


def pair_of_texts(batch: int, length: int) -> Inputs:
    ids, decoded = (torch.randint(3, VOCABULARY, (batch, n)) for n in (length, length - 2))
    return {"input_ids": ids, "decoder_input_ids": decoded, "use_cache": False}


def pixels(batch: int, _: int, size: int = 32) -> Inputs:
    return {"pixel_values": torch.randn(batch, 3, size, size)}


def video(batch: int, _: int, frames: int = 4) -> Inputs:
    return {"pixel_values": torch.randn(batch, frames, 3, 32, 32)}


def same_length(batch: int, _: int) -> Inputs:
    return text(batch, 12)


def waves(batch: int, length: int) -> Inputs:
    return {"input_values": torch.randn(batch, 60 * length)}


def text_and_pixels(batch: int, length: int) -> Inputs:
    return {**text(batch, length), **pixels(batch, length)}


def vectors(batch: int, _: int, n: int = 7) -> Inputs:
    return (torch.randn(batch, n),)


def rows(batch: int, length: int, n: int = 7) -> Inputs:
    return (torch.randn(batch, length, n),)


def signals(batch: int, length: int, n: int = 3) -> Inputs:
    return (torch.randn(batch, n, 4 * length),)


def images(batch: int, _: int, size: int = 16) -> Inputs:
    return (torch.randn(batch, 3, size, size),)


def numbers(batch: int, length: int) -> Inputs:
    return (torch.randint(0, VOCABULARY, (batch, length)),)


# ------------------------------------------------------------------------------------------------------ settings

ENCODER: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 56,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 40,
    "num_labels": LABELS,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
DECODER: dict[str, Any] = {**ENCODER, "num_key_value_heads": 2}
VISION: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 56,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": LABELS,
}
SEQUENCES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 56,
    "decoder_ffn_dim": 60,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}


def without(settings: dict[str, Any], *names: str, **more: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names} | more
