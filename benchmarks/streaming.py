"""A network larger than the memory given to it: a 7B-shaped LLaMA on disk, pruned 2:4 by Wanda a block at a time.

The checkpoint has random weights in bfloat16, one shard per block, 13.5 GB; the weights of the blocks repeat, as their
values do not matter here. A child process prunes it; the most memory that it ever held and the seconds of each block
are taken from outside. With ``--blocks`` the child is killed (SIGKILL) after so many blocks: what it held stands, the
time of the others is extrapolated and said to be. ``--resume`` does the same with a small network to its end: once
without interruption, once killed again and again, and compares the files.

Run it from the repository root: ``python benchmarks/streaming.py FOLDER [--blocks 3] [--copy] [--resume]``.
``--copy`` reads and writes the blocks and prunes nothing: what input and output cost by themselves. ``--shrink depth``
takes a quarter of the blocks away instead, ``--shrink neurons`` a quarter of the neurons of each, ``--shrink healed``
these with least squares. ``--layers 4`` makes and prunes a network of as many blocks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

LARGE = {"width": 4096, "ffn": 11008, "heads": 32, "layers": 32, "vocabulary": 32000}
SMALL = {"width": 64, "ffn": 160, "heads": 4, "layers": 6, "vocabulary": 500}
SPARSITY = 0.5
RECIPE = "wanda_2_4"
THIN = {"structure": ["neuron"], "criterion": "fluctuation", "allocation": "uniform"}
SHRINK: dict[str, dict[str, Any]] = {
    "depth": {"structure": ["layer"], "criterion": "block_influence", "allocation": "uniform"},
    "neurons": THIN,
    "healed": {**THIN, "criterion": "leverage", "recovery": {"reconstruct": {"batches": 8}}},
}
SHARE = 0.25


def make(directory: Path, sizes: dict[str, int]) -> None:
    """Write the checkpoint: two random blocks, over and over; embeddings and norms in a shard of their own."""
    from transformers import LlamaConfig

    width, ffn, vocabulary = sizes["width"], sizes["ffn"], sizes["vocabulary"]
    generator = torch.Generator().manual_seed(0)
    places: dict[str, str] = {}
    directory.mkdir(parents=True)

    def random(*shape: int) -> torch.Tensor:
        out = torch.empty(shape, dtype=torch.bfloat16)
        return out.normal_(std=0.02, generator=generator)

    def save(number: int, tensors: dict[str, torch.Tensor]) -> None:
        file = f"model-{number:05d}-of-{sizes['layers'] + 1:05d}.safetensors"
        save_file(tensors, directory / file, {"format": "pt"})
        places.update(dict.fromkeys(tensors, file))

    ends = {"model.embed_tokens.weight": random(vocabulary, width), "lm_head.weight": random(vocabulary, width)}
    save(1, {**ends, "model.norm.weight": torch.ones(width, dtype=torch.bfloat16)})
    shapes = {f"self_attn.{name}_proj": (width, width) for name in "qkvo"}
    shapes |= {"mlp.gate_proj": (ffn, width), "mlp.up_proj": (ffn, width), "mlp.down_proj": (width, ffn)}
    blocks = [{name: random(*shape) for name, shape in shapes.items()} for _ in range(2)]
    norms = dict.fromkeys(("input_layernorm", "post_attention_layernorm"), torch.ones(width, dtype=torch.bfloat16))
    for layer in range(sizes["layers"]):
        tensors = {**blocks[layer % 2], **{name: norm.clone() for name, norm in norms.items()}}
        save(layer + 2, {f"model.layers.{layer}.{name}.weight": tensor for name, tensor in tensors.items()})
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=ffn,
        num_attention_heads=sizes["heads"],
        num_hidden_layers=sizes["layers"],
        vocab_size=vocabulary,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )
    config.save_pretrained(directory)


def prune(source: Path, out: Path, tokens: torch.Tensor, shrink: str | None) -> None:
    """The work of the child."""
    from secateurs import Recipe, load_recipe
    from secateurs.checkpoint import Checkpoint
    from secateurs.on_disk import prune_checkpoint
    from secateurs.shrink import shrink_checkpoint

    torch.set_num_threads(1)
    batches = [{"input_ids": ids, "use_cache": False} for ids in tokens.split(2)]
    if shrink is not None:
        shrink_checkpoint(Checkpoint.open(source), batches, Recipe.from_dict(SHRINK[shrink]), SHARE, out, out.parent)
        return
    recipe = replace(load_recipe(RECIPE), sequential=True)
    prune_checkpoint(Checkpoint.open(source), batches, recipe, SPARSITY, out, out.parent)


def copy(source: Path, out: Path) -> None:
    """The work of the child without the pruning."""
    from secateurs.blocks import chains, outside
    from secateurs.checkpoint import Checkpoint, Writer

    checkpoint = Checkpoint.open(source)
    net = checkpoint.empty()
    found = chains(net)
    parts = (*outside(net, found), *(block for chain in found for block in chain.blocks))
    writer = Writer(out, checkpoint, parts)
    for part in parts:
        if part not in writer.finished:
            checkpoint.load_(net, part)
            writer.write(part, {name: net.get_parameter(name) for name in checkpoint.names(part)})
            checkpoint.release_(net, part)
    writer.finish()


def child(arguments: argparse.Namespace, source: Path, out: Path, until: int | None) -> dict[str, Any]:
    """Run the work in a process of its own, and kill it when so many blocks are written; what it held, and when."""
    flags = [f"--sequences={arguments.sequences}", f"--length={arguments.length}", *(["--copy"] * arguments.copy)]
    flags += [f"--shrink={arguments.shrink}"] if arguments.shrink else []
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, str(source), "--child", str(out), *flags])
    partial = out.with_name(f"{out.name}.partial")
    times: list[float] = []
    seen, peak = 0, 0
    killed = False
    while (done := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        peak = max(peak, _peak(process.pid))
        written = sum(1 for path in partial.glob("files/*") if path.stat().st_size > _block_bytes(source) // 2)
        if written > seen:
            times += [time.perf_counter() - started] * (written - seen)
            seen = written
        if until is not None and seen >= until:
            os.kill(process.pid, signal.SIGKILL)
            killed, until = True, None
        time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(done[1])
    if process.returncode and not killed:
        raise SystemExit(f"the child ended with {process.returncode}")
    return {
        "peak_bytes": peak,
        "cpu_seconds": done[2].ru_utime + done[2].ru_stime,
        "seconds": time.perf_counter() - started,
        "block_seconds": [round(b - a, 2) for a, b in pairwise(times)],
        "blocks": seen,
        "killed": killed,
    }


def _peak(pid: int) -> int:
    """The most memory that a process has held, by Linux; what ``wait4`` tells counts its parent's as well."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM")), 0)


def _block_bytes(source: Path) -> int:
    """Of a shard that holds one block."""
    return max(source.glob("model-*.safetensors")).stat().st_size


def resumes(arguments: argparse.Namespace, folder: Path) -> bool:
    """Whether a small network gives the same files when its job is killed after every second block."""
    source, whole, broken = (folder / name for name in ("small", "small-whole", "small-broken"))
    for path in (
        source,
        whole,
        broken,
        broken.with_name("small-broken.partial"),
        whole.with_name("small-whole.partial"),
    ):
        shutil.rmtree(path, ignore_errors=True)
    make(source, SMALL)
    child(arguments, source, whole, None)
    for blocks in range(1, SMALL["layers"], 2):
        child(arguments, source, broken, blocks)
        if broken.exists():
            break
    if not broken.exists():
        child(arguments, source, broken, None)
    digests = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}
        for directory in (whole, broken)
    ]
    return digests[0] == digests[1]


def main() -> None:
    """Make what is not there, run, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--blocks", type=int, help="kill the child after so many blocks")
    parser.add_argument("--copy", action="store_true")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--shrink", choices=list(SHRINK))
    parser.add_argument("--layers", type=int, default=LARGE["layers"])
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        if arguments.copy:
            copy(arguments.folder, arguments.child)
            return
        vocabulary = json.loads((arguments.folder / "config.json").read_text())["vocab_size"]
        generator = torch.Generator().manual_seed(1)
        prune(
            arguments.folder,
            arguments.child,
            torch.randint(vocabulary, (arguments.sequences, arguments.length), generator=generator),
            arguments.shrink,
        )
        return
    if arguments.resume:
        print(json.dumps({"same_files_after_kills": resumes(arguments, arguments.folder)}))
        return
    name = "large" if arguments.layers == LARGE["layers"] else f"large-{arguments.layers}"
    source, out = arguments.folder / name, arguments.folder / "large-pruned"
    if not source.exists():
        make(source, {**LARGE, "layers": arguments.layers})
    for path in (out, out.with_name("large-pruned.partial")):
        shutil.rmtree(path, ignore_errors=True)
    told = child(arguments, source, out, arguments.blocks)
    steady = sorted(told["block_seconds"])
    told["seconds_all_blocks_extrapolated"] = steady[len(steady) // 2] * arguments.layers if steady else None
    told |= {"bytes_on_disk": sum(path.stat().st_size for path in source.iterdir()), "threads": torch.get_num_threads()}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
