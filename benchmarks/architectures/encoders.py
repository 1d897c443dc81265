"""Encoders of text."""

from __future__ import annotations

from typing import Any

import torch

from architectures.kinds import (
    ENCODER,
    LABELS,
    VOCABULARY,
    Architecture,
    Inputs,
    same_length,
    species,
    text,
    tokens,
)

CLASSIFIER = "ForSequenceClassification"


def _encoder(
    kind: str, task: str = CLASSIFIER, inputs: Any = text, attention: bool = True, **more: Any
) -> Architecture:
    return Architecture("encoder", species(kind, task, **{**ENCODER, **more}), inputs, attention)


def _boxes(batch: int, length: int) -> Inputs:
    return {**text(batch, length), "bbox": torch.rand(batch, length, 8)}


_XLM = {"vocab_size": VOCABULARY, "emb_dim": 48, "n_layers": 2, "n_heads": 6, "num_labels": LABELS}

NETWORKS: dict[str, Architecture] = {
    "bert": _encoder("Bert"),
    "bert, eager": _encoder("Bert", attn_implementation="eager"),
    "roberta": _encoder("Roberta"),
    "xlm_roberta": _encoder("XLMRoberta", "ForTokenClassification"),
    "camembert": _encoder("Camembert", "ForMaskedLM"),
    "distilbert": Architecture(
        "encoder",
        species(
            "DistilBert",
            CLASSIFIER,
            dim=48,
            n_layers=2,
            n_heads=6,
            hidden_dim=56,
            vocab_size=VOCABULARY,
            max_position_embeddings=40,
            num_labels=LABELS,
        ),
        text,
    ),
    "electra": _encoder("Electra", embedding_size=40),
    "albert": _encoder("Albert", embedding_size=20),
    "mpnet": _encoder("MPNet"),
    "deberta": _encoder("Deberta", relative_attention=True, pos_att_type=["c2p", "p2c"]),
    "deberta_v2": _encoder(
        "DebertaV2", relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=8, share_att_key=True
    ),
    "modernbert": _encoder("ModernBert", local_attention=8, cls_token_id=1, sep_token_id=2),
    "eurobert": _encoder("EuroBert", num_key_value_heads=2),
    "ernie": _encoder("Ernie"),
    "rembert": _encoder("RemBert", input_embedding_size=20, output_embedding_size=44),
    "roformer": _encoder("RoFormer", embedding_size=40),
    "squeezebert": _encoder(
        "SqueezeBert", embedding_size=48, q_groups=2, k_groups=2, v_groups=2, intermediate_groups=2, output_groups=2
    ),
    "convbert": _encoder("ConvBert", embedding_size=48, head_ratio=2, conv_kernel_size=3),
    "mobilebert": _encoder("MobileBert", embedding_size=20, intra_bottleneck_size=24, num_attention_heads=3),
    "megatron_bert": _encoder("MegatronBert"),
    "esm": _encoder("Esm", mask_token_id=3, position_embedding_type="rotary"),
    "layoutlm": _encoder("LayoutLM", inputs=tokens, max_2d_position_embeddings=32),
    "fnet": _encoder("FNet", inputs=tokens, attention=False),
    "nystromformer": _encoder("Nystromformer", inputs=same_length, num_landmarks=4, segment_means_seq_len=12),
    "longformer": _encoder("Longformer", attention_window=[4, 4]),
    "big_bird": _encoder("BigBird", attention_type="original_full"),
    "xlnet": Architecture(
        "encoder",
        species(
            "XLNet", CLASSIFIER, vocab_size=VOCABULARY, d_model=48, n_layer=2, n_head=6, d_inner=56, num_labels=LABELS
        ),
        text,
    ),
    "xlm": Architecture("encoder", species("XLM", CLASSIFIER, **_XLM), text),
    "funnel": Architecture(
        "encoder",
        species(
            "Funnel",
            CLASSIFIER,
            vocab_size=VOCABULARY,
            block_sizes=[1, 1],
            d_model=48,
            n_head=6,
            d_head=8,
            d_inner=56,
            num_decoder_layers=1,
            num_labels=LABELS,
        ),
        text,
    ),
    "xmod": _encoder("Xmod", languages=["en_XX"], default_language="en_XX"),
    "roberta_prelayernorm": _encoder("RobertaPreLayerNorm"),
    "canine": _encoder(
        "Canine", num_hash_buckets=32, local_transformer_stride=8, downsampling_rate=2, upsampling_kernel_size=2
    ),
    "ibert": _encoder("IBert"),
    "nomic_bert": _encoder("NomicBert"),
    "bros": _encoder("Bros", "ForTokenClassification", _boxes, hidden_size=128, num_attention_heads=4),
}
