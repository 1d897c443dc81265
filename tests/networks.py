"""A zoo of small networks, one for each way in which axes meet; shared by the tests of graph, surgery and prune."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateurs.graph import Graph
from secateurs.types import Group, Inputs

VOCABULARY = 40


@dataclass(frozen=True)
class Species:
    """A network, and inputs of any batch size and (for text and sound) any length that it accepts."""

    build: Callable[[], nn.Module]
    inputs: Callable[[int, int], Inputs]
    length: int = 6
    other_length: int = 9


def trained_(model: nn.Module) -> nn.Module:
    """Values of the size that training leaves, so that a wrong output shows: none is zero, one, or equal to another."""
    generator = torch.Generator().manual_seed(0)

    def normal(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor).normal_(generator=generator)

    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if not tensor.is_floating_point():
                continue
            if name.endswith("running_var"):
                tensor.copy_(0.5 + torch.empty_like(tensor).uniform_(generator=generator))
            elif name.endswith("running_mean"):
                tensor.copy_(0.2 * normal(tensor))
            elif isinstance(_named(model, name), nn.Parameter):
                std = 1.4 / tensor[0].numel() ** 0.5 if tensor.dim() > 1 else 0.2
                tensor.copy_(std * normal(tensor) + (1.0 if _is_scale(model, name) else 0.0))
    return model.eval()


def _named(model: nn.Module, name: str) -> Tensor:
    holder, _, leaf = name.rpartition(".")
    found: Tensor = getattr(model.get_submodule(holder), leaf)
    return found


def _is_scale(model: nn.Module, name: str) -> bool:
    """The multiplier of a norm."""
    holder, _, leaf = name.rpartition(".")
    return leaf == "weight" and "norm" in type(model.get_submodule(holder)).__name__.lower()


def groups_of(graph: Graph, *, without: tuple[str, ...] = (), flagged: bool = False) -> tuple[Group, ...]:
    """A group for every free dim but those of these roles, the flagged ones on request.

    Units compete inside the dim that always encloses theirs.
    """
    found = []
    for dim in graph.dims.values():
        if dim.frozen is None and (flagged or not dim.flagged) and dim.size > 1 and dim.role not in without:
            outer = graph.enclosing(dim.name)
            dims = (outer, dim.name) if outer else (dim.name,)
            sizes = [graph.dims[name].size for name in dims]
            found.append(
                Group(dim.name, math.prod(sizes), graph.members(*dims), sizes[-1], dims, dim.multiple, least=dim.least)
            )
    return tuple(found)


# ------------------------------------------------------------------------------------------------- transformers


def transformer(kind: str, task: str, **settings: Any) -> nn.Module:
    """A network of the transformers library from a small configuration."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(**settings)
    model: nn.Module = getattr(transformers, f"{kind}{task}")(config)
    return trained_(model)


def text(batch: int, length: int) -> Inputs:
    ids = torch.randint(3, VOCABULARY, (batch, length))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def causal_text(batch: int, length: int) -> Inputs:
    return {**text(batch, length), "use_cache": False}


def pair_of_texts(batch: int, length: int) -> Inputs:
    return {
        "input_ids": torch.randint(3, VOCABULARY, (batch, length)),
        "decoder_input_ids": torch.randint(3, VOCABULARY, (batch, length - 2)),
        "use_cache": False,
    }


def pixels(batch: int, _: int, size: int = 32) -> Inputs:
    return {"pixel_values": torch.randn(batch, 3, size, size)}


def text_and_pixels(batch: int, length: int) -> Inputs:
    return {**text(batch, length), **pixels(batch, length)}


def sound(batch: int, length: int) -> Inputs:
    return {"input_values": torch.randn(batch, 40 * length)}


ENCODER = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 16,
    "num_labels": 3,
}
DECODER = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "intermediate_size": 20,
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "image_size": 32,
    "patch_size": 16,
    "num_labels": 3,
}

# -------------------------------------------------------------------------------------------------- plain torch


class Mlp(nn.Module):
    """Nothing but layers, activations, and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Sigmoid(), nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class CifarResNet(nn.Module):
    """Residual blocks; a shortcut takes every second pixel and pads with zero channels (He et al. 2016, option A)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(_Shortcut(4, 4), _Shortcut(4, 8), _Shortcut(8, 8), _Shortcut(8, 16))
        self.linear = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.bn1(self.conv1(x)), inplace=True))
        out: Tensor = self.linear(F.avg_pool2d(x, x.shape[3]).view(x.shape[0], -1))
        return out


class _Shortcut(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride, self.padding = outputs // inputs, (outputs - inputs) // 2
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        f = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        f += x
        return F.relu(f)


class ConcatNet(nn.Module):
    """Each layer reads all layers before it, side by side (as DenseNet, Huang et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6 + 4 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(6 + 4 * i, 4, 3, padding=1) for i in range(3))
        self.squash = nn.Conv2d(18, 9, 1)
        self.pool = nn.AvgPool2d(2)
        self.classifier = nn.Linear(9 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            found.append(conv(F.relu(norm(torch.cat(found, 1)))))
        out: Tensor = self.classifier(self.pool(self.squash(torch.cat(found, 1))).flatten(1))
        return out


class SqueezeExcitation(nn.Module):
    """Channels gated by a sigmoid of their own means; group norm; transposed, depthwise and grouped convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.GroupNorm(4, 8)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.transposed = nn.ConvTranspose2d(12, 6, 2, stride=2, groups=2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.stem(x)))
        x = x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        x = self.transposed(F.hardswish(self.grouped(self.depthwise(x) + x)))
        out: Tensor = self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return out


class SplitGate(nn.Module):
    """A fused projection that is split and chunked; one stretch gates another; sizes kept in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = (6, 10, 4)
        self.fused = nn.Linear(5, 20)
        self.gated = nn.Linear(6, 24)
        self.mixed = nn.Linear(12 + 10 + 4, 7)
        self.out = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.fused(x).split(self.sizes, dim=-1)
        gate, value = self.gated(torch.tanh(a)).chunk(2, dim=-1)
        both = torch.cat([torch.sigmoid(gate) * value, torch.cos(b), c], -1)
        out: Tensor = self.out(F.elu(self.mixed(both)))
        return out


class OwnAttention(nn.Module):
    """Attention as people write it: a fused projection, ``einsum``, a scale kept as a number, a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.head_dim = 4, 3
        self.scale = 1 / math.sqrt(self.head_dim)
        self.embed = nn.Linear(5, 10)
        self.norm1, self.norm2 = nn.LayerNorm(10), nn.LayerNorm(10)
        self.qkv = nn.Linear(10, 36)
        self.proj = nn.Linear(12, 10)
        self.ffn = nn.Sequential(nn.Linear(10, 14), nn.Softplus(), nn.Linear(14, 10))
        self.out = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        batch, length, _ = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (torch.einsum("bhid,bhjd->bhij", q, k) * self.scale).softmax(-1)
        mixed = torch.einsum("bhij,bhjd->bihd", weights, v).reshape(batch, length, -1)
        x = x + self.proj(mixed)
        x = x + self.ffn(self.norm2(x))
        out: Tensor = self.out(x.mean(1))
        return out


class Recurrent(nn.Module):
    """Torch's recurrent layers: two of an LSTM in both directions, then a GRU, whose last state is read."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(5, 8)
        self.lstm = nn.LSTM(8, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(12, 10, batch_first=True)
        self.out = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.lstm(torch.relu(self.inputs(x)))
        out: Tensor = self.out(self.gru(x)[1][-1])
        return out


class TorchTransformer(nn.Module):
    """Torch's own encoder and decoder, whose attention keeps its sizes where no attribute reaches them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 12)
        self.transformer = nn.Transformer(12, 4, 2, 1, dim_feedforward=20, batch_first=True)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        causal = nn.Transformer.generate_square_subsequent_mask(x.shape[1] - 1)
        out: Tensor = self.out(self.transformer(x, x[:, 1:], tgt_mask=causal, tgt_is_causal=True))
        return out


def plain(cls: type[nn.Module]) -> nn.Module:
    return trained_(cls())


def vectors(batch: int, _: int, n: int) -> Inputs:
    return (torch.randn(batch, n),)


def sequences(batch: int, length: int, n: int) -> Inputs:
    return (torch.randn(batch, length, n),)


def images(batch: int, _: int, size: int = 8) -> Inputs:
    return (torch.randn(batch, 3, size, size),)


NETWORKS: dict[str, Species] = {
    "mlp": Species(partial(plain, Mlp), partial(vectors, n=4)),
    "cifar_resnet": Species(partial(plain, CifarResNet), images),
    "concat": Species(partial(plain, ConcatNet), images),
    "squeeze_excitation": Species(partial(plain, SqueezeExcitation), images),
    "split_gate": Species(partial(plain, SplitGate), partial(vectors, n=5)),
    "own_attention": Species(partial(plain, OwnAttention), partial(sequences, n=5)),
    "recurrent": Species(partial(plain, Recurrent), partial(sequences, n=5)),
    "torch_transformer": Species(partial(plain, TorchTransformer), partial(sequences, n=5)),
    "bert": Species(partial(transformer, "Bert", "ForSequenceClassification", **ENCODER), text),
    "bert_eager": Species(
        partial(transformer, "Bert", "ForSequenceClassification", attn_implementation="eager", **ENCODER), text
    ),
    "distilbert": Species(
        partial(
            transformer,
            "DistilBert",
            "ForSequenceClassification",
            dim=24,
            n_layers=2,
            n_heads=3,
            hidden_dim=20,
            vocab_size=VOCABULARY,
            max_position_embeddings=16,
        ),
        text,
    ),
    "albert": Species(partial(transformer, "Albert", "ForSequenceClassification", embedding_size=10, **ENCODER), text),
    "llama": Species(partial(transformer, "Llama", "ForCausalLM", **DECODER), causal_text),
    "llama_eager": Species(
        partial(transformer, "Llama", "ForCausalLM", attn_implementation="eager", **DECODER), causal_text
    ),
    "qwen2": Species(partial(transformer, "Qwen2", "ForCausalLM", **DECODER), causal_text),
    "qwen3": Species(partial(transformer, "Qwen3", "ForCausalLM", **DECODER), causal_text),
    "mixtral": Species(
        partial(
            transformer,
            "Mixtral",
            "ForCausalLM",
            num_local_experts=3,
            num_experts_per_tok=2,
            **{**DECODER, "num_hidden_layers": 1, "intermediate_size": 32},
        ),
        causal_text,
    ),
    "deberta_v2": Species(
        partial(
            transformer,
            "DebertaV2",
            "ForSequenceClassification",
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            position_buckets=4,
            **ENCODER,
        ),
        text,
    ),
    "gpt2": Species(
        partial(
            transformer,
            "GPT2",
            "LMHeadModel",
            n_embd=24,
            n_layer=2,
            n_head=3,
            n_positions=16,
            vocab_size=VOCABULARY,
            bos_token_id=0,
            eos_token_id=0,
        ),
        causal_text,
    ),
    "gpt_neox": Species(partial(transformer, "GPTNeoX", "ForCausalLM", **{**ENCODER, "rotary_pct": 0.5}), causal_text),
    "t5": Species(
        partial(
            transformer,
            "T5",
            "ForConditionalGeneration",
            d_model=24,
            d_kv=4,
            d_ff=20,
            num_layers=2,
            num_heads=3,
            vocab_size=VOCABULARY,
            feed_forward_proj="gated-gelu",
        ),
        pair_of_texts,
    ),
    "vit": Species(partial(transformer, "ViT", "ForImageClassification", **VISION), pixels),
    "swin": Species(
        partial(
            transformer,
            "Swin",
            "ForImageClassification",
            image_size=16,
            patch_size=2,
            embed_dim=12,
            depths=[2, 1],
            num_heads=[2, 4],
            window_size=4,
            mlp_ratio=1.5,
            num_labels=3,
        ),
        partial(pixels, size=16),
    ),
    "resnet_basic": Species(
        partial(
            transformer,
            "ResNet",
            "ForImageClassification",
            embedding_size=6,
            hidden_sizes=[6, 10],
            depths=[2, 1],
            layer_type="basic",
            num_labels=3,
        ),
        pixels,
    ),
    "resnet_bottleneck": Species(
        partial(
            transformer,
            "ResNet",
            "ForImageClassification",
            embedding_size=6,
            hidden_sizes=[12, 16],
            depths=[1, 2],
            layer_type="bottleneck",
            num_labels=3,
        ),
        pixels,
    ),
    "mobilenet_v2": Species(
        partial(
            transformer, "MobileNetV2", "ForImageClassification", image_size=32, depth_multiplier=0.1, num_labels=3
        ),
        pixels,
    ),
    "regnet": Species(
        partial(
            transformer,
            "RegNet",
            "ForImageClassification",
            embedding_size=6,
            hidden_sizes=[8, 12],
            depths=[1, 2],
            groups_width=4,
            num_labels=3,
        ),
        pixels,
    ),
    "convnext": Species(
        partial(
            transformer,
            "ConvNext",
            "ForImageClassification",
            hidden_sizes=[6, 10],
            depths=[1, 1],
            num_stages=2,
            num_labels=3,
        ),
        pixels,
    ),
    "mobilevit": Species(
        partial(
            transformer,
            "MobileViT",
            "ForImageClassification",
            image_size=32,
            hidden_sizes=[12, 16, 20],
            neck_hidden_sizes=[6, 8, 10, 12, 14, 16, 18],
            num_attention_heads=2,
            num_labels=3,
        ),
        pixels,
    ),
    "wav2vec2": Species(
        partial(
            transformer,
            "Wav2Vec2",
            "ForCTC",
            conv_dim=(8, 10),
            conv_stride=(5, 2),
            conv_kernel=(10, 3),
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            num_feat_extract_layers=2,
            **{**ENCODER, "pad_token_id": 0},
        ),
        sound,
    ),
    "clip": Species(
        partial(
            transformer,
            "CLIP",
            "Model",
            text_config={**ENCODER, "eos_token_id": 2},
            vision_config=VISION,
            projection_dim=10,
        ),
        text_and_pixels,
    ),
}
