"""Networks that are chains of blocks, small; and one batch for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks import trained_

transformers = pytest.importorskip("transformers", reason="these networks come from transformers")

SMALL = {"hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 24, "vocab_size": 40}


def llama(**changes: Any) -> nn.Module:
    config = transformers.LlamaConfig(**{**SMALL, "num_hidden_layers": 3, "num_key_value_heads": 2, **changes})
    return trained_(transformers.LlamaForCausalLM(config))


def gpt2() -> nn.Module:
    return trained_(
        transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=16, n_head=4, n_layer=3, vocab_size=40))
    )


def gemma() -> nn.Module:
    config = transformers.Gemma3TextConfig(
        **SMALL, num_hidden_layers=4, num_key_value_heads=2, head_dim=4, sliding_window=3,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )  # fmt: skip
    return trained_(transformers.Gemma3ForCausalLM(config))


def mixtral() -> nn.Module:
    config = transformers.MixtralConfig(**SMALL, num_hidden_layers=2, num_key_value_heads=2, num_local_experts=3)
    return trained_(transformers.MixtralForCausalLM(config))


def jamba() -> nn.Module:
    config = transformers.JambaConfig(
        **SMALL, num_hidden_layers=6, num_key_value_heads=2, num_experts=3, num_experts_per_tok=2, pad_token_id=0,
        use_mamba_kernels=False, attn_layer_period=3, attn_layer_offset=1, mamba_d_state=4, mamba_dt_rank=2,
    )  # fmt: skip
    return trained_(transformers.JambaForCausalLM(config))


def t5() -> nn.Module:
    config = transformers.T5Config(
        d_model=16, d_kv=4, d_ff=24, num_heads=4, num_layers=3, num_decoder_layers=2, vocab_size=40,
        decoder_start_token_id=0,
    )  # fmt: skip
    return trained_(transformers.T5ForConditionalGeneration(config))


def bart() -> nn.Module:
    config = transformers.BartConfig(
        d_model=16, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=24, decoder_ffn_dim=24, vocab_size=40, max_position_embeddings=30,
    )  # fmt: skip
    return trained_(transformers.BartForConditionalGeneration(config))


def switch() -> nn.Module:
    """Its decoder has a config of its own; no experts."""
    config = transformers.SwitchTransformersConfig(
        d_model=16, d_kv=4, d_ff=24, num_heads=4, num_layers=2, num_decoder_layers=2, vocab_size=40,
        decoder_start_token_id=0,
    )  # fmt: skip
    config.encoder_sparse_step = config.decoder_sparse_step = 0
    return trained_(transformers.SwitchTransformersForConditionalGeneration(config))


class Halves(nn.Module):
    """Numbered siblings; each is called by keyword and returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 6)
        self.layer1 = Half()
        self.layer2 = Half()
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in (self.layer1, self.layer2):
            x, _ = layer(scale=2.0, hidden=x)
        return self.head(x)


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, scale: float, hidden: Tensor) -> tuple[Tensor, None]:
        return hidden + scale * self.linear(hidden), None


def sequential() -> nn.Module:
    blocks = [nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(3)]
    return trained_(nn.Sequential(nn.Linear(4, 6), *blocks, nn.Linear(6, 2)))


def tokens() -> dict[str, Tensor]:
    ids = torch.arange(14).reshape(2, 7) * 3 % 39 + 1
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids).index_fill(1, torch.tensor([6]), 0)}


def pairs() -> dict[str, Tensor]:
    return {**tokens(), "decoder_input_ids": tokens()["input_ids"][:, :5]}


def numbers() -> tuple[Tensor, ...]:
    return (torch.linspace(-1, 1, 12).reshape(3, 4),)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any], tuple[str, ...]]] = {
    "llama": (llama, tokens, ("model.layers",)),
    "gpt2": (gpt2, tokens, ("transformer.h",)),
    "gemma": (gemma, tokens, ("model.layers",)),
    "mixtral": (mixtral, tokens, ("model.layers",)),
    "jamba": (jamba, tokens, ("model.layers",)),
    "t5": (t5, pairs, ("encoder.block", "decoder.block")),
    "bart": (bart, pairs, ("model.encoder.layers", "model.decoder.layers")),
    "switch": (switch, pairs, ("encoder.block", "decoder.block")),
    "siblings": (lambda: trained_(Halves()), numbers, ("layer",)),
    "sequential": (sequential, numbers, ("",)),
}
