"""Networks that tell what an image or a video shows."""

from __future__ import annotations

from functools import partial
from typing import Any

from architectures.kinds import LABELS, VISION, Architecture, pixels, species, video

CLASSIFIER = "ForImageClassification"


def vit(kind: str, task: str = CLASSIFIER, family: str = "vision", **more: Any) -> Architecture:
    return Architecture(family, species(kind, task, **{**VISION, **more}), pixels)


def conv(kind: str, task: str = CLASSIFIER, family: str = "vision", size: int = 32, **settings: Any) -> Architecture:
    return Architecture(
        family, species(kind, task, num_labels=LABELS, **settings), partial(pixels, size=size), attention=False
    )


def pyramid(kind: str, task: str = CLASSIFIER, family: str = "vision", size: int = 32, **settings: Any) -> Architecture:
    return Architecture(family, species(kind, task, num_labels=LABELS, **settings), partial(pixels, size=size))


SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 12, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
STAGES = {"hidden_sizes": [8, 12, 20, 28], "depths": [1, 1, 2, 1]}

NETWORKS: dict[str, Architecture] = {
    "vit": vit("ViT"),
    "vit, eager": vit("ViT", attn_implementation="eager"),
    "deit": vit("DeiT"),
    "beit": vit("Beit", vocab_size=60, use_relative_position_bias=True),
    "data2vec_vision": vit("Data2VecVision"),
    "dinov2": vit("Dinov2", mlp_ratio=2),
    "dinov2, registers": vit("Dinov2WithRegisters", mlp_ratio=2),
    "vit_msn": vit("ViTMSN"),
    "vit_mae": vit("ViTMAE", "Model", mask_ratio=0.0),
    "ijepa": vit("IJepa"),
    "siglip, vision": vit("SiglipVision", "Model"),
    "levit": pyramid(
        "Levit",
        image_size=32,
        hidden_sizes=[12, 16, 20],
        num_attention_heads=[2, 3, 4],
        depths=[1, 1, 1],
        key_dim=[5, 5, 5],
    ),
    "swin": pyramid("Swin", **SWIN, mlp_ratio=2),
    "swinv2": pyramid("Swinv2", **SWIN, mlp_ratio=2.0),
    "pvt": pyramid(
        "Pvt",
        image_size=32,
        hidden_sizes=[12, 20],
        depths=[1, 1],
        num_encoder_blocks=2,
        num_attention_heads=[2, 4],
        mlp_ratios=[2, 2],
        sequence_reduction_ratios=[2, 1],
        patch_sizes=[4, 2],
        strides=[4, 2],
    ),
    "pvt_v2": pyramid(
        "PvtV2",
        image_size=32,
        hidden_sizes=[12, 20],
        depths=[1, 1],
        num_encoder_blocks=2,
        num_attention_heads=[2, 4],
        mlp_ratios=[2, 2],
        sr_ratios=[2, 1],
        patch_sizes=[7, 3],
        strides=[4, 2],
    ),
    "cvt": pyramid("Cvt", embed_dim=[12, 20, 28], num_heads=[2, 2, 4], depth=[1, 2, 3]),
    "hiera": pyramid(
        "Hiera",
        image_size=[32, 32],
        embed_dim=12,
        depths=[1, 1],
        num_heads=[2, 4],
        patch_stride=[4, 4],
        query_stride=[2, 2],
        masked_unit_size=[4, 4],
        num_query_pool=1,
    ),
    "focalnet": conv("FocalNet", image_size=32, embed_dim=12, depths=[1, 1], focal_levels=[2, 2], focal_windows=[3, 3]),
    "poolformer": conv("PoolFormer", **STAGES),
    "convnext": conv("ConvNext", **STAGES),
    "convnextv2": conv("ConvNextV2", **STAGES),
    "resnet": conv("ResNet", embedding_size=10, **STAGES, layer_type="basic"),
    "resnet, bottleneck": conv("ResNet", embedding_size=10, hidden_sizes=[16, 24, 32, 40], depths=[1, 2, 1, 1]),
    "regnet": conv("RegNet", embedding_size=10, **STAGES, groups_width=4),
    "bit": conv("Bit", embedding_size=8, hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1], num_groups=2),
    "mobilenet_v1": conv("MobileNetV1", image_size=32, depth_multiplier=0.25),
    "mobilenet_v2": conv("MobileNetV2", image_size=32, depth_multiplier=0.35),
    "efficientnet": conv(
        "EfficientNet",
        image_size=32,
        width_coefficient=0.25,
        depth_coefficient=0.5,
        hidden_dim=320,
        num_block_repeats=[1] * 7,
    ),
    "mobilevit": pyramid(
        "MobileViT",
        image_size=32,
        hidden_sizes=[24, 32, 40],
        neck_hidden_sizes=[6, 8, 10, 12, 14, 16, 18],
        num_attention_heads=4,
    ),
    "mobilevitv2": conv("MobileViTV2", size=64, image_size=64, width_multiplier=0.25),
    "swiftformer": conv("SwiftFormer", depths=[1, 1, 1, 1], embed_dims=[8, 12, 20, 28], mlp_ratio=2),
    "videomae": Architecture(
        "vision", species("VideoMAE", "ForVideoClassification", num_frames=4, tubelet_size=2, **VISION), video
    ),
    "vivit": Architecture(
        "vision", species("Vivit", "ForVideoClassification", num_frames=4, tubelet_size=[2, 8, 8], **VISION), video
    ),
    "timesformer": Architecture(
        "vision", species("Timesformer", "ForVideoClassification", num_frames=4, **VISION), video
    ),
}
