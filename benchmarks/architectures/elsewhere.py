"""Networks of libraries that need not be installed: timm and torchvision."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

from architectures.kinds import LABELS, Architecture, images

IMAGES = partial(images, size=64)
TIMM = (
    "resnet18",
    "efficientnet_b0",
    "mobilenetv3_small_050",
    "vit_tiny_patch16_224",
    "convnext_atto",
    "regnety_002",
    "ghostnet_050",
    "repvgg_a0",
    "mixer_s32_224",
    "densenet121",
)
TORCHVISION = ("squeezenet1_0", "googlenet", "shufflenet_v2_x0_5", "mnasnet0_5", "swin_t", "alexnet")


def _timm(name: str) -> nn.Module:
    sizes: dict[str, Any] = {"img_size": 64} if "224" in name else {}
    net: nn.Module = import_module("timm").create_model(name, pretrained=False, num_classes=LABELS, **sizes)
    return net


def _torchvision(name: str) -> nn.Module:
    more = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    net: nn.Module = getattr(import_module("torchvision.models"), name)(weights=None, num_classes=LABELS, **more)
    return net


def _installed(library: str) -> bool:
    try:
        import_module(library)
    except Exception:  # torchvision beside another torch fails in its own ways
        return False
    return True


def _of(library: str, build: Callable[[str], nn.Module], names: tuple[str, ...]) -> dict[str, Architecture]:
    if not _installed(library):
        return {}
    return {
        f"{library}: {name}": Architecture(library, partial(build, name), IMAGES, "vit" in name or "swin" in name)
        for name in names
    }


NETWORKS: dict[str, Architecture] = {
    **_of("timm", _timm, TIMM),
    **_of("torchvision", _torchvision, TORCHVISION),
}
MISSING = tuple(
    f"{library} cannot be imported: its {len(names)} networks are skipped"
    for library, names in (("timm", TIMM), ("torchvision", TORCHVISION))
    if not _installed(library)
)
