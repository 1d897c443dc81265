"""Networks of up to 141 billion parameters, traced and planned without weights: seconds, and the most memory taken.

Each is built on the meta device in a process of its own, traced on 16 tokens (or one image), and its heads and neurons
are ranked by random scores until half of the MACs are gone. What the plan leaves is counted; nothing is run.

Run it from the repository root: ``python benchmarks/big.py [name ...]``.
"""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

RESULTS = Path(__file__).parent / "results" / "big.json"
SPARSITY = 0.5


def llama_70b() -> nn.Module:
    """80 layers, hidden 8192, 64 heads on 8 key-value heads."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_decoder(80, 8192, 64, 28672, 128256)))


def qwen2_72b() -> nn.Module:
    """As above, with biases of queries, keys and values and a larger vocabulary."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**_decoder(80, 8192, 64, 29568, 152064)))


def mixtral_8x22b() -> nn.Module:
    """56 layers of 8 experts, two for each token."""
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(MixtralConfig(**_decoder(56, 6144, 48, 16384, 32768), num_local_experts=8))


def bert_large() -> nn.Module:
    """24 layers, hidden 1024, 16 heads."""
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(BertConfig(**_encoder(24, 1024, 16, 4096)))


def vit_huge() -> nn.Module:
    """32 layers, hidden 1280, 16 heads, patches of 14 pixels."""
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(**_encoder(32, 1280, 16, 5120), patch_size=14))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    build.__name__: build for build in (llama_70b, qwen2_72b, mixtral_8x22b, bert_large, vit_huge)
}


def _encoder(layers: int, width: int, heads: int, ffn: int) -> dict[str, int]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": ffn,
    }


def _decoder(layers: int, width: int, heads: int, ffn: int, vocabulary: int) -> dict[str, int]:
    return {**_encoder(layers, width, heads, ffn), "num_key_value_heads": 8, "vocab_size": vocabulary}


def measured(name: str) -> dict[str, Any]:
    """Build, trace and plan one network; seconds of each, and the peak memory of this process in bytes."""
    from secateurs.allocations.global_rank import GlobalRank
    from secateurs.graph import trace
    from secateurs.prune import find_groups
    from secateurs.select import select
    from secateurs.structures.head import Head
    from secateurs.structures.neuron import Neuron
    from secateurs.surgery import sizes_after

    torch.set_num_threads(1)
    imported = time.perf_counter()
    with torch.device("meta"):
        model = NETWORKS[name]().eval()
    inputs = {"pixel_values": torch.zeros(1, 3, 224, 224)}
    if hasattr(model.config, "vocab_size"):
        inputs = {"input_ids": torch.arange(16)[None], "attention_mask": torch.ones(1, 16, dtype=torch.long)}
    built = time.perf_counter()
    graph = trace(model, inputs)
    traced = time.perf_counter()
    groups = find_groups(model, (Head(), Neuron()), graph, inputs)
    generator = torch.Generator().manual_seed(0)
    scores = {group.name: torch.rand(group.n_units, generator=generator) for group in groups}
    counts = GlobalRank(currency="macs")(groups, scores, SPARSITY, graph.price(groups, "macs"))
    sizes = sizes_after(groups, select(groups, scores, counts), graph)
    after = {"parameters_after": graph.parameters(sizes), "macs_after": graph.macs(sizes)}
    planned = time.perf_counter()
    return {
        "parameters": graph.parameters(),
        "macs": graph.macs(),
        **after,
        "groups": len(groups),
        "seconds_build": round(built - imported, 2),
        "seconds_trace": round(traced - built, 2),
        "seconds_plan": round(planned - traced, 2),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "cpu_seconds": round(time.process_time(), 2),
        "unknown_operators": sorted(graph.unknown),
    }


def main(names: list[str]) -> None:
    """Each network in a process of its own; a table, and the results file where all were asked for."""
    found: dict[str, Any] = {}
    heads = {"network": -16, "parameters": 12, "after": 8, "MACs after": 10, "seconds": 8, "CPU s": 8, "peak GB": 8}
    print(*(head.ljust(-n) if n < 0 else head.rjust(n) for head, n in heads.items()))
    for name in names or NETWORKS:
        done = subprocess.run([sys.executable, __file__, "--one", name], check=True, capture_output=True, text=True)
        it = found[name] = json.loads(done.stdout.splitlines()[-1])
        seconds = it["seconds_build"] + it["seconds_trace"] + it["seconds_plan"]
        shares = it["parameters_after"] / it["parameters"], it["macs_after"] / it["macs"]
        print(
            f"{name:16s} {it['parameters'] / 1e9:10.2f} G {shares[0]:8.3f} {shares[1]:10.3f} {seconds:8.1f} "
            f"{it['cpu_seconds']:8.1f} {it['peak_bytes'] / 1e9:8.2f}",
            flush=True,
        )
    if not names:
        machine = {"machine": platform.machine(), "torch": torch.__version__, "threads": 1, "sparsity_macs": SPARSITY}
        RESULTS.write_text(json.dumps({**machine, "networks": found}, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measured(sys.argv[2])))
    else:
        main(sys.argv[1:])
