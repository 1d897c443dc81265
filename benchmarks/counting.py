"""MACs as counted beside MACs by hand, for nets whose arithmetic can be written down.

    python benchmarks/counting.py

Needs ``pip install 'secateurs[transformers]'``. Prints a table; exits 1 where a count differs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from secateurs.measures.instruments.counter import count_macs
from secateurs.measures.instruments.forward import call, inference
from secateurs.types import Inputs

Row = tuple[str, nn.Module, Inputs, int]
B, T = 2, 12


def mlp() -> Row:
    return (
        "MLP 20-64-10",
        nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10)),
        (torch.randn(B, 20),),
        B * (20 * 64 + 64 * 10),
    )


def convolutions() -> Row:
    """A strided, a grouped, a depthwise and a transposed convolution."""
    net = nn.Sequential(
        nn.Conv2d(4, 16, 3, stride=2, padding=1),  # 32 -> 16
        nn.Conv2d(16, 32, 3, padding=1, groups=4),
        nn.Conv2d(32, 32, 5, padding=2, groups=32, stride=2),  # 16 -> 8
        nn.ConvTranspose2d(32, 8, 2, stride=2),  # 8 -> 16
    )
    hand = B * (16 * 16 * 16 * 4 * 9 + 16 * 16 * 32 * 4 * 9 + 8 * 8 * 32 * 25 + 8 * 8 * 32 * 8 * 4)
    return "convolutions", net, (torch.randn(B, 4, 32, 32),), hand


def lstm() -> Row:
    net = nn.LSTM(24, 16, num_layers=2, bidirectional=True, batch_first=True)
    gates = 4 * 16
    hand = B * T * 2 * (gates * (24 + 16) + gates * (2 * 16 + 16))
    return "LSTM, 2 layers, both ways", net, (torch.randn(B, T, 24),), hand


def gru() -> Row:
    return "GRU", nn.GRU(24, 16, batch_first=True), (torch.randn(B, T, 24),), B * T * 3 * 16 * (24 + 16)


def encoder_layer() -> Row:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return "nn.TransformerEncoderLayer", layer, (torch.randn(B, T, 32),), _encoder(B, T, 32, 64)


def _encoder(batch: int, tokens: int, width: int, hidden: int) -> int:
    """Four projections, two products of the attention, two of the feed-forward."""
    return batch * (tokens * (4 * width * width + 2 * width * hidden) + 2 * tokens * tokens * width)


def bert() -> Row:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, num_labels=2
    )
    hand = 3 * _encoder(B, T, 32, 64) + B * (32 * 32 + 32 * 2)
    return "BERT", BertForSequenceClassification(config), _tokens(), hand


def vit() -> Row:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8
    )
    config.num_labels = 5
    patches = 16
    hand = B * patches * 3 * 8 * 8 * 32 + 2 * _encoder(B, patches + 1, 32, 64) + B * 32 * 5
    return "ViT", ViTForImageClassification(config), {"pixel_values": torch.randn(B, 3, 32, 32)}, hand


def _llama_settings() -> dict[str, Any]:
    return {
        "vocab_size": 99,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 4,
        "intermediate_size": 48,
    }


def _decoder(mlp_per_token: int) -> int:
    """Two layers with 8 query heads and 2 key-value heads of 4, and the language head."""
    projections = 32 * 32 + 2 * 32 * 8 + 32 * 32
    layer = B * (T * (projections + mlp_per_token) + 2 * T * T * 32)
    return 2 * layer + B * T * 32 * 99


def llama() -> Row:
    from transformers import LlamaConfig, LlamaForCausalLM

    return (
        "Llama, grouped queries",
        LlamaForCausalLM(LlamaConfig(**_llama_settings())),
        _tokens(),
        _decoder(3 * 32 * 48),
    )


def mixtral() -> Row:
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(**_llama_settings(), num_local_experts=4, num_experts_per_tok=2)
    hand = _decoder(32 * 4 + 2 * 3 * 32 * 48)
    return "Mixtral, 2 of 4 experts", MixtralForCausalLM(config), _tokens(), hand


def gpt2() -> Row:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2)
    return "GPT-2", GPT2LMHeadModel(config), _tokens(), 2 * _encoder(B, T, 32, 128) + B * T * 32 * 99


def _tokens() -> dict[str, Any]:
    return {"input_ids": torch.randint(0, 99, (B, T)), "attention_mask": torch.ones(B, T, dtype=torch.long)}


NETS: tuple[Callable[[], Row], ...] = (
    mlp,
    convolutions,
    lstm,
    gru,
    encoder_layer,
    bert,
    vit,
    gpt2,
    llama,
    mixtral,
)


def plain(model: nn.Module, inputs: Inputs) -> int:
    """What torch's counter gives as it comes."""
    with inference(model), FlopCounterMode(display=False) as counter:
        call(model, inputs)
    return counter.get_total_flops() // 2


def table() -> Iterator[tuple[str, int, int, int]]:
    """Name, MACs by hand, MACs as secateurs counts them, MACs of the plain counter."""
    for net in NETS:
        torch.manual_seed(0)
        name, model, inputs, hand = net()
        yield name, hand, count_macs(model, inputs).executed, plain(model, inputs)


def main() -> int:
    print(f"{'net':28}{'by hand':>12}{'secateurs':>12}{'plain torch':>12}")
    wrong = 0
    for name, hand, ours, theirs in table():
        wrong += hand != ours
        print(f"{name:28}{hand:12,}{ours:12,}{theirs:12,}  {'' if hand == ours else 'DIFFERS'}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
