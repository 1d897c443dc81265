"""Does a pruned decoder say what the masked one says? Tokens of ``generate()``, with and without a key-value cache.

A LLaMA-shaped network with grouped queries loses another number of key-value heads, query heads and neurons in every
layer. The dense network with the same units set to zero is the reference. Prompts of different lengths are padded on
the left; tokens are picked greedily, sampled with a seed, or found by beams.

Run it from the repository root: ``python benchmarks/generate.py``.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateurs import surgery, trials
from secateurs.graph import Graph, trace
from secateurs.structures.head import Head
from secateurs.structures.neuron import Neuron
from secateurs.types import Group, Plan

LENGTHS = (3, 17, 1, 9, 30, 5)
CACHES: dict[str, dict[str, Any]] = {
    "none": {"use_cache": False},
    "dynamic": {"use_cache": True},
    "static": {"cache_implementation": "static"},
}
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampled": {"do_sample": True, "top_k": 0},
    "beams": {"do_sample": False, "num_beams": 3},
}


def llama() -> nn.Module:
    """Wide enough weights that logits differ, so that the tokens say something."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 512}
    config = LlamaConfig(vocab_size=500, head_dim=16, num_key_value_heads=4, initializer_range=0.1, **sizes)
    return LlamaForCausalLM(config).eval()


def uneven(groups: tuple[Group, ...]) -> Plan:
    """Drops up to half of every block, another number in every layer."""
    return Plan(
        {
            g.name: (torch.arange(g.n_units) * 7 + i) % g.block >= 1 + i % max(1, g.block // 2)
            for i, g in enumerate(groups)
        }
    )


def prompts() -> dict[str, Tensor]:
    longest = max(LENGTHS)
    mask = torch.stack([(torch.arange(longest) >= longest - n).long() for n in LENGTHS])
    return {"input_ids": torch.randint(3, 500, mask.shape) * mask, "attention_mask": mask}


def heads(graph: Graph, plan: Plan, groups: tuple[Group, ...]) -> list[list[int]]:
    """Key-value heads and queries of each, layer by layer."""
    sizes = surgery.sizes_after(groups, plan, graph)
    pairs: dict[str, list[int]] = {}
    for dim in graph.dims.values():
        if dim.role in {"kv_heads", "query_group"}:
            pairs.setdefault(dim.name.rpartition(".")[0], []).append(sizes.get(dim.name, dim.size))
    return list(pairs.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--new-tokens", type=int, default=40)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/generate.json"))
    options = parser.parse_args()
    torch.manual_seed(0)
    masked, asked = llama(), prompts()
    inputs = {**asked, "use_cache": False}
    graph = trace(masked, inputs)
    groups, _ = trials.provable(masked, (*Head()(graph), *Head("query")(graph), *Neuron()(graph)), graph, inputs)
    plan = uneven(groups)
    small = surgery.shrink(masked, groups, plan, graph, inputs).model
    surgery.mask_(masked, groups, plan)
    print(f"parameters {graph.parameters():,} -> {sum(p.numel() for p in small.parameters()):,}")
    print(f"key-value heads and queries of each, by layer: {heads(graph, plan, groups)}")
    rows = []
    for cache, keeps in CACHES.items():
        for way, picks in WAYS.items():
            found, seconds = [], []
            for model in (masked, small):
                torch.manual_seed(1)
                start = time.perf_counter()
                lengths = {"min_new_tokens": options.new_tokens, "max_new_tokens": options.new_tokens}
                found.append(model.generate(**asked, **keeps, **picks, **lengths, pad_token_id=0))
                seconds.append(time.perf_counter() - start)
            same = int((found[0] == found[1])[:, -options.new_tokens :].sum())
            rows.append({"cache": cache, "picked": way, "same": same, "of": len(LENGTHS) * options.new_tokens})
            rows[-1]["different_tokens"] = int(found[1][:, -options.new_tokens :].unique().numel())
            print(
                f"{cache:8} {way:8} {same:4} of {rows[-1]['of']} tokens the same, {rows[-1]['different_tokens']} kinds;"
                f" {seconds[0]:.1f} s masked, {seconds[1]:.1f} s pruned"
            )
    about = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__, "rows": rows}
    options.output.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
