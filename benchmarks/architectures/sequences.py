"""Encoder-decoders of text, and networks of time series."""

from __future__ import annotations

from typing import Any

import torch

from architectures.kinds import SEQUENCES, VOCABULARY, Architecture, Inputs, pair_of_texts, species, without

GENERATION = "ForConditionalGeneration"
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 48,
    "d_kv": 9,
    "d_ff": 56,
    "num_layers": 2,
    "num_heads": 6,
    "decoder_start_token_id": 0,
}


def _pair(kind: str, task: str = GENERATION, **more: Any) -> Architecture:
    return Architecture("encoder-decoder", species(kind, task, **{**SEQUENCES, **more}), pair_of_texts)


def _t5(kind: str, **more: Any) -> Architecture:
    return Architecture("encoder-decoder", species(kind, GENERATION, **{**T5, **more}), pair_of_texts)


def _with_masks(batch: int, length: int) -> Inputs:
    """Without them this code looks for padding in the numbers, and a branch on values cannot be written down."""
    inputs = pair_of_texts(batch, length)
    masks = {f"{of}attention_mask": torch.ones_like(inputs[f"{of}input_ids"]) for of in ("", "decoder_")}
    return {**inputs, **masks}


def _past(batch: int, _: int, length: int = 24, channels: int = 3) -> Inputs:
    return {"past_values": torch.randn(batch, length, channels)}


def _patches(kind: str, **settings: Any) -> Architecture:
    sizes = {"num_input_channels": 3, "context_length": 24, "patch_length": 4, "prediction_length": 5, "d_model": 48}
    attention = kind == "PatchTST"
    return Architecture("time series", species(kind, "ForPrediction", **sizes, **settings), _past, attention)


NETWORKS: dict[str, Architecture] = {
    "t5": _t5("T5"),
    "t5, gated": _t5("T5", feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "umt5": _t5("UMT5"),
    "longt5": _t5("LongT5", local_radius=4, encoder_attention_type="local"),
    "switch_transformers": _t5(
        "SwitchTransformers", num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, num_experts=3
    ),
    "bart": _pair("Bart"),
    "mbart": _pair("MBart"),
    "pegasus": _pair("Pegasus"),
    "marian": _pair("Marian", "MTModel", decoder_vocab_size=VOCABULARY),
    "m2m_100": _pair("M2M100"),
    "blenderbot": _pair("Blenderbot"),
    "led": _pair("LED", attention_window=4, max_encoder_position_embeddings=40, max_decoder_position_embeddings=40),
    "prophetnet": Architecture(
        "encoder-decoder",
        species(
            "ProphetNet",
            GENERATION,
            vocab_size=VOCABULARY,
            hidden_size=48,
            num_encoder_layers=2,
            num_decoder_layers=2,
            num_encoder_attention_heads=6,
            num_decoder_attention_heads=6,
            encoder_ffn_dim=56,
            decoder_ffn_dim=60,
            max_position_embeddings=40,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=2,
        ),
        pair_of_texts,
    ),
    "fsmt": Architecture(
        "encoder-decoder",
        species(
            "FSMT",
            GENERATION,
            langs=["en", "de"],
            src_vocab_size=VOCABULARY,
            tgt_vocab_size=VOCABULARY,
            **without(SEQUENCES, "vocab_size"),
        ),
        _with_masks,
    ),
    "patchtst": _patches("PatchTST", patch_stride=4, num_hidden_layers=2, num_attention_heads=6, ffn_dim=56),
    "patchtsmixer": _patches("PatchTSMixer", patch_stride=4, num_layers=2, expansion_factor=2),
}
