"""Networks of convolutions, written with torch.nn alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from architectures.kinds import LABELS, Architecture, Inputs, Written, images, signals, torch_nets


def _conv(n: int, m: int, k: int = 3, **more: Any) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n, m, k, padding=k // 2, bias=False, **more), nn.BatchNorm2d(m), nn.ReLU())


def lenet() -> nn.Module:
    features = nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(6, 14, 3), nn.Tanh(), nn.MaxPool2d(2)
    )
    return nn.Sequential(features, nn.Flatten(), nn.Linear(14 * 4, 26), nn.Tanh(), nn.Linear(26, LABELS))


def vgg() -> nn.Module:
    body = nn.Sequential(_conv(3, 10), _conv(10, 14), nn.MaxPool2d(2), _conv(14, 18), nn.AdaptiveAvgPool2d(2))
    return nn.Sequential(body, nn.Flatten(), nn.Linear(18 * 4, 22), nn.ReLU(), nn.Linear(22, LABELS))


def cifar_resnet() -> nn.Module:
    """Shortcuts take every second pixel and pad with zero channels (He et al. 2016, option A)."""

    def block(n: int, m: int) -> nn.Module:
        def run(self: Any, x: Tensor) -> Tensor:
            f = self.second(self.first(x))
            if m > n:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, (m - n) // 2, (m - n) // 2))
            return F.relu(f + x)

        first = nn.Sequential(nn.Conv2d(n, m, 3, m // n, 1, bias=False), nn.BatchNorm2d(m), nn.ReLU())
        return Written(run, first=first, second=nn.Sequential(nn.Conv2d(m, m, 3, 1, 1, bias=False), nn.BatchNorm2d(m)))

    body = nn.Sequential(_conv(3, 8), block(8, 8), block(8, 16), block(16, 32))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, LABELS))


def densenet() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        found = [self.stem(x)]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)))
        return self.head(self.squash(torch.cat(found, 1)).mean((2, 3)))

    layers = nn.ModuleList(
        nn.Sequential(nn.BatchNorm2d(12 + 6 * i), nn.ReLU(), nn.Conv2d(12 + 6 * i, 6, 3, padding=1)) for i in range(3)
    )
    return Written(
        run, stem=nn.Conv2d(3, 12, 3), layers=layers, squash=nn.Conv2d(30, 16, 1), head=nn.Linear(16, LABELS)
    )


def squeeze_excitation() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.stem(x)))
        x = x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        return self.head(x.mean((2, 3)))

    return Written(
        run,
        stem=nn.Conv2d(3, 12, 3),
        norm=nn.GroupNorm(3, 12),
        down=nn.Conv2d(12, 7, 1),
        up=nn.Conv2d(7, 12, 1),
        head=nn.Linear(12, LABELS),
    )


def unet() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        c = self.c(F.max_pool2d(b, 2))
        b = self.d(torch.cat([b, self.up_b(c)], 1))
        return self.out(torch.cat([a, F.interpolate(self.up_a(b), scale_factor=2.0, mode="bilinear")], 1))

    return Written(
        run,
        a=_conv(3, 8),
        b=_conv(8, 14),
        c=_conv(14, 22),
        up_b=nn.ConvTranspose2d(22, 12, 2, stride=2),
        d=_conv(26, 14),
        up_a=nn.Conv2d(14, 10, 1),
        out=nn.Conv2d(18, 2, 1),
    )


def shufflenet() -> nn.Module:
    """Channels change places between grouped convolutions."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.first(x)
        y = y.unflatten(1, (3, -1)).transpose(1, 2).flatten(1, 2)
        return self.head(F.relu(x + self.last(self.depthwise(y))).mean((2, 3)))

    return Written(
        run,
        stem=_conv(3, 24),
        first=_conv(24, 12, 1, groups=3),
        depthwise=nn.Conv2d(12, 12, 3, padding=1, groups=12),
        last=nn.Conv2d(12, 24, 1, groups=3),
        head=nn.Linear(24, LABELS),
    )


def inception() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(
            torch.cat([self.one(x), self.three(x), self.five(x), F.max_pool2d(x, 3, 1, 1)], 1).mean((2, 3))
        )

    return Written(
        run,
        stem=_conv(3, 10),
        one=_conv(10, 6, 1),
        three=nn.Sequential(_conv(10, 7, 1), _conv(7, 9)),
        five=nn.Sequential(_conv(10, 5, 1), _conv(5, 8, 5)),
        head=nn.Linear(33, LABELS),
    )


def super_resolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 14, 3, padding=1), nn.PReLU(14), nn.Conv2d(14, 12, 3, padding=1), nn.PixelShuffle(2)
    )


def pixel_shuffle_inside() -> nn.Module:
    up = nn.Sequential(nn.Conv2d(12, 40, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())
    return nn.Sequential(_conv(3, 12), up, nn.PixelUnshuffle(2), nn.Conv2d(40, 3, 3, padding=1))


def weight_norm() -> nn.Module:
    layers = (parametrizations.weight_norm(nn.Conv1d(n, m, 3, padding=1)) for n, m in ((3, 14), (14, 18)))
    first, second = layers
    return nn.Sequential(first, nn.LeakyReLU(), second, nn.LeakyReLU(), nn.Conv1d(18, 2, 1))


def old_weight_norm() -> nn.Module:
    """The form of torch before parametrizations, by a hook on the module."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layers = [nn.utils.weight_norm(nn.Conv1d(n, m, 3, padding=1)) for n, m in ((3, 14), (14, 18))]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), nn.Conv1d(18, 2, 1))


def spectral_norm() -> nn.Module:
    layers = [parametrizations.spectral_norm(nn.Conv2d(n, m, 3, padding=1)) for n, m in ((3, 14), (14, 18))]
    return nn.Sequential(
        layers[0], nn.LeakyReLU(), layers[1], nn.LeakyReLU(), nn.Flatten(2), Mean(), nn.Linear(18, LABELS)
    )


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(-1)


def volumes() -> nn.Module:
    body = nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2))
    return nn.Sequential(
        body, nn.Conv3d(8, 14, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(14, LABELS)
    )


def temporal() -> nn.Module:
    """Dilated causal convolutions with gates and skips (van den Oord et al. 2016)."""

    def run(self: Any, x: Tensor) -> Tensor:
        x, total = self.stem(x), 0
        for i, (gated, skip, back) in enumerate(zip(self.gated, self.skip, self.back, strict=True)):
            value, gate = gated(F.pad(x, (2**i, 0))).chunk(2, 1)
            y = torch.tanh(value) * torch.sigmoid(gate)
            total, x = total + skip(y), x + back(y)
        return self.out(F.relu(total))

    gated = nn.ModuleList(nn.Conv1d(12, 20, 2, dilation=2**i) for i in range(3))
    skip, back = (nn.ModuleList(nn.Conv1d(10, m, 1) for _ in range(3)) for m in (14, 12))
    return Written(run, stem=nn.Conv1d(3, 12, 1), gated=gated, skip=skip, back=back, out=nn.Conv1d(14, 4, 1))


def autoencoder() -> nn.Module:
    down = nn.Sequential(
        nn.Conv2d(3, 10, 3, 2, 1), nn.ELU(), nn.Conv2d(10, 18, 3, 2, 1), nn.InstanceNorm2d(18, affine=True)
    )
    up = nn.Sequential(nn.ConvTranspose2d(18, 12, 4, 2, 1, groups=2), nn.ELU(), nn.ConvTranspose2d(12, 3, 4, 2, 1))
    return nn.Sequential(down, up)


def detector() -> nn.Module:
    """Two feature maps, each with boxes and classes, side by side (as SSD, Liu et al. 2016)."""

    def run(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        maps = [x, self.down(x)]
        boxes = [head(m).permute(0, 2, 3, 1).reshape(len(m), -1, 4) for head, m in zip(self.boxes, maps, strict=True)]
        classes = [
            head(m).permute(0, 2, 3, 1).reshape(len(m), -1, LABELS) for head, m in zip(self.classes, maps, strict=True)
        ]
        return torch.cat(boxes, 1), torch.cat(classes, 1)

    boxes, classes = (nn.ModuleList(nn.Conv2d(n, 3 * k, 3, padding=1) for n in (14, 18)) for k in (4, LABELS))
    down = nn.Sequential(_conv(14, 10, 1), nn.Conv2d(10, 18, 3, stride=2, padding=1), nn.ReLU())
    return Written(
        run, stem=nn.Sequential(_conv(3, 8), nn.MaxPool2d(2), _conv(8, 14)), down=down, boxes=boxes, classes=classes
    )


def _volumes(batch: int, _: int) -> Inputs:
    return (torch.randn(batch, 3, 6, 8, 8),)


NETWORKS: dict[str, Architecture] = {
    **torch_nets(
        images, lenet, vgg, cifar_resnet, densenet, squeeze_excitation, unet, shufflenet, inception, super_resolution
    ),
    **torch_nets(images, pixel_shuffle_inside, spectral_norm, autoencoder, detector),
    **torch_nets(signals, weight_norm, old_weight_norm, temporal),
    **torch_nets(_volumes, volumes),
}
