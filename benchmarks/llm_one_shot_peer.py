"""One run of llm-compressor for ``llm_one_shot.py``; runs in the peer's environment and imports nothing of ours.

python llm_one_shot_peer.py MODEL TOKENS METHOD PATTERN OUT
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.pruning import WandaPruningModifier
from transformers import AutoModelForCausalLM

try:
    from llmcompressor.modifiers.pruning import SparseGPTModifier
except ImportError:
    from llmcompressor.modifiers.obcq import SparseGPTModifier

MODIFIERS = {"wanda": WandaPruningModifier, "sparsegpt": SparseGPTModifier}
LAYERS = r"re:.*layers\.\d+\..*proj$"  # its ignore list does not keep it from the tied head


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(model: str, tokens: str, method: str, pattern: str, out: str) -> None:
    torch.set_num_threads(1)
    calibration, _ = torch.load(tokens, weights_only=True)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    mask = pattern if ":" in pattern else "0:0"
    sparsity = 0.5 if ":" in pattern else float(pattern.removesuffix("%")) / 100
    modifier: Any = MODIFIERS[method](sparsity=sparsity, mask_structure=mask, targets=[LAYERS])
    rows = [{"input_ids": ids.tolist(), "attention_mask": [1] * len(ids)} for ids in calibration]
    began = cpu()
    oneshot(
        model=network,
        dataset=Dataset.from_list(rows),
        recipe=[modifier],
        max_seq_length=calibration.shape[1],
        num_calibration_samples=len(rows),
    )
    seconds, peak = cpu() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    network.save_pretrained(out, save_compressed=False)
    print("RESULT" + json.dumps({"cpu_seconds": seconds, "peak_rss_mb": peak}))


main(*sys.argv[1:])
