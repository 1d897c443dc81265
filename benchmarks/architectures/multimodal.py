"""Networks of text and images, or text and sound."""

from __future__ import annotations

from typing import Any

import torch

from architectures.kinds import (
    DECODER,
    ENCODER,
    VISION,
    VOCABULARY,
    Architecture,
    Inputs,
    pixels,
    species,
    text,
    text_and_pixels,
    without,
)

CLIP_TEXT = {**ENCODER, "eos_token_id": 2}
FAMILY = "multimodal"


def _two(kind: str, task: str = "Model", inputs: Any = text_and_pixels, **settings: Any) -> Architecture:
    return Architecture(FAMILY, species(kind, task, **settings), inputs)


def _towers(kind: str, task: str = "Model", **more: Any) -> Architecture:
    return _two(kind, task, text_config=CLIP_TEXT, vision_config=VISION, projection_dim=20, **more)


def _clipseg(batch: int, length: int) -> Inputs:
    return {**text(batch, length), **pixels(batch, length)}


def _regions(batch: int, length: int) -> Inputs:
    return {**text(batch, length), "visual_feats": torch.randn(batch, 5, 20), "visual_pos": torch.rand(batch, 5, 4)}


def _boxes(batch: int, length: int) -> Inputs:
    return {**text(batch, length), "bbox": torch.randint(0, 20, (batch, length, 4)), **pixels(batch, length)}


def _seen(batch: int, length: int) -> Inputs:
    return {**text(batch, length), "visual_embeds": torch.randn(batch, 5, 20)}


def _image_in_text(batch: int, length: int) -> Inputs:
    """Sixteen patches stand where the image stands in the text."""
    picture = torch.full((batch, 16), VOCABULARY - 1)
    ids = torch.cat([picture, torch.randint(3, VOCABULARY - 1, (batch, length))], 1)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False, **pixels(batch, length)}


def _llava(kind: str, **more: Any) -> Architecture:
    return _two(
        kind,
        "ForConditionalGeneration",
        _image_in_text,
        text_config={**DECODER, "config": "LlamaConfig", "max_position_embeddings": 60},
        vision_config={**VISION, "config": "CLIPVisionConfig"},
        image_token_index=VOCABULARY - 1,
        image_token_id=VOCABULARY - 1,
        **more,
    )


NETWORKS: dict[str, Architecture] = {
    "clip": _towers("CLIP"),
    "siglip": _two("Siglip", text_config=without(CLIP_TEXT, projection_size=48), vision_config=VISION),
    "chinese_clip": _towers("ChineseCLIP"),
    "clipseg": _two(
        "CLIPSeg",
        "ForImageSegmentation",
        _clipseg,
        text_config=CLIP_TEXT,
        vision_config={**VISION, "num_hidden_layers": 3},
        projection_dim=20,
        extract_layers=[0, 1, 2],
        reduce_dim=12,
        decoder_num_attention_heads=3,
        decoder_intermediate_size=26,
        conditional_layer=0,
    ),
    "owlvit": _two(
        "OwlViT",
        "ForObjectDetection",
        text_config=CLIP_TEXT,
        vision_config=VISION,
        projection_dim=48,
    ),
    "vilt": _two(
        "Vilt", "ForImagesAndTextClassification", **{**VISION, **ENCODER}, num_images=1, modality_type_vocab_size=3
    ),
    "layoutlmv3": _two(
        "LayoutLMv3",
        "ForSequenceClassification",
        _boxes,
        **{**ENCODER, "pad_token_id": 0},
        max_2d_position_embeddings=32,
        coordinate_size=8,
        shape_size=8,
        input_size=32,
        patch_size=8,
        has_spatial_attention_bias=False,
        has_relative_attention_bias=False,
    ),
    "lxmert": _two(
        "Lxmert",
        "Model",
        _regions,
        **without(ENCODER, "num_hidden_layers"),
        l_layers=1,
        x_layers=1,
        r_layers=1,
        visual_feat_dim=20,
    ),
    "visual_bert": _two("VisualBert", "Model", _seen, **ENCODER, visual_embedding_dim=20),
    "blip": _two(
        "Blip",
        "ForConditionalGeneration",
        text_config={**CLIP_TEXT, "encoder_hidden_size": 48, "projection_dim": 20},
        vision_config=VISION,
        projection_dim=20,
    ),
    "git": _two("Git", "ForCausalLM", **ENCODER, vision_config=VISION),
    "llava": _llava("Llava"),
    "paligemma": _two(
        "PaliGemma",
        "ForConditionalGeneration",
        _image_in_text,
        text_config={**DECODER, "config": "GemmaConfig", "head_dim": 10, "max_position_embeddings": 60},
        vision_config={**VISION, "config": "SiglipVisionConfig", "projection_dim": 48},
        projection_dim=48,
        image_token_index=VOCABULARY - 1,
        image_token_id=VOCABULARY - 1,
    ),
    "vision_text": Architecture(
        FAMILY,
        species(
            "AltCLIP", "Model", text_config={**ENCODER, "project_dim": 20}, vision_config=VISION, projection_dim=20
        ),
        text_and_pixels,
    ),
}
