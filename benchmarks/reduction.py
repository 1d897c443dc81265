"""Half of the heads and half of the feed-forward neurons gone: do counted MACs and parameters fall as arithmetic says?

    python benchmarks/reduction.py

BERT-base, ViT-B and a narrow network of LLaMA-7B's form are really made smaller, then torch's FlopCounterMode counts
one forward pass (with the operators registered that it lacks). Prints a table; exits 1 where a number differs from hand
arithmetic. Needs ``pip install 'secateurs[transformers]'``, 4 GB of memory and some minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateurs import Recipe, Task, prune
from secateurs.measures.instruments.counter import count_macs
from secateurs.measures.parameters import Parameters
from secateurs.types import Inputs

KEEP = {"neuron": {"keep": ["*pooler*"]}}
RECIPE = {"structure": ["head", KEEP], "criterion": "magnitude", "allocation": "uniform"}

WIDTHS = (15, 15, 15, 15, 8, 14, 14, 14)


@dataclass(frozen=True)
class Shape:
    """What the arithmetic needs to know of a transformer.

    Args:
        tokens: Of one input.
        layers: Number of them.
        width: Of the residual stream.
        heads: Of the queries.
        kv_heads: Of the keys and values.
        head_dim: Of each head.
        hidden: Feed-forward neurons.
        matrices: Feed-forward matrices: 2, or 3 where gated.
        biased: Whether projections have biases.
        rest: MACs beside the layers.
    """

    tokens: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    matrices: int = 2
    biased: bool = True
    rest: int = 0

    def macs(self, kept: float = 1.0) -> int:
        """Multiply-accumulates of one input with this fraction of heads and neurons."""
        queries, pairs, hidden = (round(n * kept) for n in (self.heads, self.kv_heads, self.hidden))
        projections = self.width * self.head_dim * (2 * queries + 2 * pairs)
        products = 2 * self.tokens * self.head_dim * queries  # with every key, and with every value
        return self.layers * self.tokens * (projections + products + self.matrices * self.width * hidden) + self.rest

    def removed(self, gone: float) -> int:
        """Parameters that go with this fraction of heads and neurons."""
        columns = self.head_dim * (self.heads + 2 * self.kv_heads)  # of the query, key and value projections
        weights = self.width * (columns + self.head_dim * self.heads + self.matrices * self.hidden)
        biases = columns + (self.matrices - 1) * self.hidden if self.biased else 0
        return round(self.layers * (weights + biases) * gone)


Net = tuple[nn.Module, Inputs, Shape]


def bert() -> Net:
    from transformers import BertConfig, BertForSequenceClassification

    tokens, width = 16, 768
    model = BertForSequenceClassification(BertConfig(num_labels=2))
    shape = Shape(tokens, 12, width, 12, 12, 64, 3072, rest=width * width + 2 * width)
    return model, {"input_ids": torch.randint(0, 999, (1, tokens))}, shape


def vit() -> Net:
    from transformers import ViTConfig, ViTForImageClassification

    patches, width = 16, 768
    config = ViTConfig(image_size=64)
    config.num_labels = 10
    shape = Shape(patches + 1, 12, width, 12, 12, 64, 3072, rest=patches * 3 * 16 * 16 * width + width * 10)
    return ViTForImageClassification(config), {"pixel_values": torch.randn(1, 3, 64, 64)}, shape


def llama(kv_heads: int = 32) -> Net:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokens, width, layers, vocabulary = 16, 512, 32, 999
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": 1376, "head_dim": 16}
    heads = {"num_attention_heads": 32, "num_key_value_heads": kv_heads}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, use_cache=False, **sizes, **heads))
    shape = Shape(tokens, layers, width, 32, kv_heads, 16, 1376, 3, biased=False, rest=tokens * width * vocabulary)
    return model, {"input_ids": torch.randint(0, vocabulary, (1, tokens))}, shape


def llama_grouped() -> Net:
    return llama(kv_heads=8)


NETS: dict[str, Callable[[], Net]] = {
    "BERT-base": bert,
    "ViT-B/16": vit,
    "LLaMA-7B, an eighth as wide": llama,
    "the same, 4 queries a key": llama_grouped,
}


@dataclass(frozen=True)
class Row:
    """Counted, beside what arithmetic says."""

    net: str
    dense_macs: int
    dense_macs_by_hand: int
    macs: int
    macs_by_hand: int
    dense_parameters: int
    parameters: int
    parameters_by_hand: int

    @property
    def holds(self) -> bool:
        return (self.dense_macs, self.macs, self.parameters) == (
            self.dense_macs_by_hand,
            self.macs_by_hand,
            self.parameters_by_hand,
        )


def measured(name: str) -> Row:
    torch.manual_seed(0)
    model, inputs, shape = NETS[name]()
    model.eval()

    def unused(model: nn.Module, batch: object) -> Any:
        raise NotImplementedError

    task = Task("reduction", inputs, {"train": ()}, loss=unused, predict=unused, quality=Parameters())
    small = prune(model, task, Recipe.from_dict(RECIPE), 0.5).model
    before, after = (sum(p.numel() for p in net.parameters()) for net in (model, small))
    return Row(
        name,
        count_macs(model, inputs).executed,
        shape.macs(),
        count_macs(small, inputs).executed,
        shape.macs(0.5),
        before,
        after,
        before - shape.removed(0.5),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NETS, default=list(NETS), help="measure these")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "reduction.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    head = ("MACs: dense", "by hand", "halved", "by hand", "", "parameters", "halved", "by hand")
    print(" " * 29 + "".join(f"{word:>{width}}" for word, width in zip(head, WIDTHS, strict=True)))
    for name in given.only:
        rows.append(row := measured(name))
        macs = (row.dense_macs, row.dense_macs_by_hand, row.macs, row.macs_by_hand)
        cells = [f"{n:,}" for n in macs] + [f"{row.macs / row.dense_macs:.1%}"]
        cells += [f"{n:,}" for n in (row.dense_parameters, row.parameters, row.parameters_by_hand)]
        line = "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))
        print(f"{name:29}{line}{'' if row.holds else '  DIFFERS'}", flush=True)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps({"rows": [asdict(row) for row in rows]}, indent=1) + "\n", encoding="utf-8")
    return int(not all(row.holds for row in rows))


if __name__ == "__main__":
    sys.exit(main())
