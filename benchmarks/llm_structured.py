"""Which smaller language model is best at one parameter count? Width and depth of SmolLM2-135M without retraining.

    SECATEURS_DATA=... python benchmarks/llm_structured.py --model DIRECTORY

One model, one calibration set (64 sequences of 512 tokens of wikitext-2's validation text, evenly spaced), one
evaluation (perplexity over the first 60 x 512 tokens of its test text, no BOS token). FLAP, LLM-Pruner, ShortGPT and
Shortened LLaMA are recipes; so is ours. Width: a quarter of the parameters of the blocks, and a fifth of the
feed-forward neurons alone. Depth: 6 of 30 blocks.

Each is pruned, checked against its masked network, and measured: perplexity, that of text which calibration is nothing
like (20 x 512 tokens of the second half of tinyshakespeare), parameters, multiply-accumulates, the seconds of a forward
pass over 128 tokens in pairs with the dense model, and LAMBADA and HellaSwag through lm-evaluation-harness, zero-shot,
on examples evenly spaced over each set, the network in bfloat16.

Results are kept after every method, so a run that is cut short goes on where it was.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import logging
import math
import os
import platform
import re
import shutil
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateurs import Recipe, Task, load_recipe
from secateurs.deploy import load, save
from secateurs.measures.instruments.pairs import Pairs, ratio
from secateurs.measures.macs import Macs
from secateurs.measures.parameters import Parameters
from secateurs.measures.perplexity import Perplexity
from secateurs.prune import prune, traced
from secateurs.report.document import readings
from secateurs.tasks.language_modelling import LanguageData, language_modelling
from secateurs.tasks.zero_shot import ZeroShot

RESULTS = Path(__file__).parent / "results" / "llm_structured.json"
STEPS = ("perplexity", "elsewhere", "zero_shot", "speed")
ASKED = ("lambada", "hellaswag")
ENDS = ["*.layers.0.*", "*.layers.1.*", "*.layers.2.*", "*.layers.29.*"]
RANKED = {"currency": "parameters", "floor": 0.2}

METHODS: dict[str, tuple[str, float, dict[str, Any]]] = {
    "FLAP": ("flap", 1 / 3, {}),
    "LLM-Pruner": (
        "llm_pruner",
        0.25 * 30 / 26,
        {"structure": [{"head": {"keep": ENDS}}, {"neuron": {"keep": ENDS}}], "allocation": {"global_rank": RANKED}},
    ),
    "Taylor, OSSCAR's search": ("llm_width", 0.25, {"chooser": "osscar"}),
    "SliceGPT": ("slicegpt", 0.25, {}),
    "MoDeGPT": ("modegpt", 0.25, {}),
    "MoDeGPT, neurons alone": ("modegpt", 1 / 3, {"structure": ["neuron"], "basis": None}),
    "ours, width": ("llm_width", 0.25, {}),
    "OSSCAR": ("osscar", 1 / 3, {"structure": ["neuron"]}),
    "ShortGPT": ("shortgpt", 0.2, {}),
    "ours, depth": ("llm_depth", 0.2, {}),
    "Shortened LLaMA": ("shortened_llama", 0.2, {}),
    "Shortened LLaMA, healed": ("shortened_llama", 0.2, {"recovery": {"reconstruct": {"batches": 64}}}),
    "FLAP, a fifth of the neurons": ("flap", 0.2, {}),
    "ours, a fifth of the neurons": ("llm_width", 0.2, {"structure": ["neuron"]}),
}
"""Name -> recipe, sparsity in what its groups have a part in, what is changed of the recipe.

The neurons are three quarters of the parameters of the blocks; LLM-Pruner leaves 4 of 30 blocks whole.
"""


def opened(path: str) -> tuple[nn.Module, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(path)


def task_of(model: nn.Module, tokenizer: Any, windows: int, count: int) -> Task:
    text = Path(os.environ["SECATEURS_DATA"]) / "wikitext2"
    valid, test = text / "wiki.valid.tokens.txt.gz", text / "wiki.test.tokens.txt.gz"
    data = LanguageData(valid, test, valid, count=count, windows=windows, example_length=128)
    return language_modelling(model, tokenizer, data)


def elsewhere(model: nn.Module, tokenizer: Any) -> Task:
    """To predict text of another kind; its first half is there to choose recipes by."""
    place = Path(os.environ["SECATEURS_DATA"]) / "tinyshakespeare" / "input.txt.gz"
    text = gzip.decompress(place.read_bytes()).decode()
    data = LanguageData([text], [text[len(text) // 2 :]], [text], count=1, windows=20, example_length=128)
    return language_modelling(model, tokenizer, data)


def recipe_of(name: str, changes: dict[str, Any], most: int) -> Recipe:
    """A shipped recipe with these changes, that looks at no more batches than this."""
    recipe = Recipe.from_dict({**load_recipe(name).to_dict(), **changes})
    recovery: Any = recipe.recovery
    if hasattr(recovery, "batches"):
        recovery = replace(recovery, batches=min(most, recovery.batches))
    return replace(recipe, recovery=recovery, calibration_batches=min(most, recipe.calibration_batches))


def blocks(model: nn.Module, shapes: dict[str, torch.Size]) -> int:
    """Parameters of the matrices of the blocks."""
    return sum(p.numel() for name, p in model.named_parameters() if ".layers." in name and len(shapes[name]) == 2)


def measured(it: Candidate, dense: nn.Module | None, task: Task, given: argparse.Namespace) -> dict[str, Any]:
    """What is asked for and not yet in the row."""
    found, model = it.row, it.model
    if "perplexity" in given.steps and "perplexity" not in found:
        found["perplexity"] = Perplexity()(model, task).value
        found["parameters"] = int(Parameters()(model, task).value)
        found["macs"] = int(Macs()(model, task).value)
    if "elsewhere" in given.steps and "elsewhere" not in found:
        found["elsewhere"] = Perplexity()(model, elsewhere(model, it.tokenizer)).value
    if "zero_shot" in given.steps and (sets := unasked(found, given)):
        asked = ZeroShot(sets, Path(os.environ["SECATEURS_DATA"]), limit=given.limit)
        answers = readings(asked(copy.deepcopy(model).bfloat16(), it.tokenizer))
        found["zero_shot"] = {**found.get("zero_shot", {}), **answers}
    if "speed" in given.steps and "verdict" not in found and dense is not None:
        torch.set_float32_matmul_precision("highest")
        pairs = ratio(dense, model, task.example_inputs, Pairs(max_seconds=15))
        torch.set_float32_matmul_precision(given.precision)
        low, high = pairs.ratio.spread or (pairs.ratio.value, pairs.ratio.value)
        found["tokens_per_second_over_dense"] = [1 / pairs.ratio.value, 1 / high, 1 / low]
        found["verdict"] = pairs.verdict
    return found


def unasked(row: dict[str, Any], given: argparse.Namespace) -> tuple[str, ...]:
    """The zero-shot sets of which a row has fewer examples than it is to have."""
    had = row.get("zero_shot", {})
    return tuple(name for name in given.sets if had.get(f"{name}/acc", {"samples": 0})["samples"] < given.limit)


def ready(row: dict[str, Any], given: argparse.Namespace) -> list[str]:
    """The steps that are in a row."""
    marks = {"perplexity": "perplexity", "elsewhere": "elsewhere", "speed": "verdict"}
    return [step for step, mark in marks.items() if mark in row] + ["zero_shot"] * (not unasked(row, given))


@dataclass
class Candidate:
    """A network, and what is known of it."""

    model: nn.Module
    tokenizer: Any
    row: dict[str, Any]


def pruned_(name: str, it: Candidate, task: Task, given: argparse.Namespace) -> Candidate:
    """The network that a method makes of this one; where it was made before, as it was kept."""
    place = given.networks / re.sub(r"\W+", "_", name)
    if place.exists() and it.row:
        return Candidate(load(place, lambda: opened(given.model)[0]), it.tokenizer, it.row)
    recipe_name, sparsity, changes = METHODS[name]
    recipe, model = recipe_of(recipe_name, changes, given.most), it.model
    began = time.process_time()
    pruned = prune(model, task, recipe, sparsity, network=traced(model, small_inputs(task), recipe))
    seconds = time.process_time() - began
    shapes = {n: p.shape for n, p in pruned.masked.named_parameters()}
    found = {"recipe": recipe.to_dict(), "sparsity": sparsity, "cpu_seconds": seconds}
    found["blocks_over_dense"] = blocks(pruned.model, shapes) / blocks(model, shapes)
    found["oracle"] = disagreement(pruned.masked, pruned.model, small_inputs(task))
    few = {n: keep.tolist() for n, keep in pruned.plan.keep.items() if len(keep) < 40}
    found["dropped"] = {
        n: gone for n, keep in few.items() if (gone := [i for i, stays in enumerate(keep) if not stays])
    }
    shutil.rmtree(place, ignore_errors=True)
    save(place, pruned, recipe=recipe, manifest={}, build=None)
    return Candidate(pruned.model, it.tokenizer, found)


def small_inputs(task: Task) -> dict[str, Any]:
    return {n: x[:, :16] if isinstance(x, torch.Tensor) else x for n, x in dict(task.example_inputs).items()}  # type: ignore[arg-type]


@torch.no_grad()
def disagreement(masked: nn.Module, small: nn.Module, inputs: dict[str, Any]) -> float:
    a, b = masked(**inputs).logits, small(**inputs).logits
    return float((a - b).abs().max() / a.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a transformers directory")
    parser.add_argument("--methods", nargs="*", default=["dense", *METHODS], choices=["dense", *METHODS])
    parser.add_argument("--windows", type=int, default=60, help="evaluation windows")
    parser.add_argument("--sequences", type=int, default=64, help="calibration sequences")
    parser.add_argument(
        "--precision", default="highest", choices=["highest", "high", "medium"], help="of float32 products"
    )
    parser.add_argument("--most", type=int, default=64, help="batches that a recipe may look at, for a quick run")
    parser.add_argument("--limit", type=int, default=256, help="examples of each zero-shot set")
    parser.add_argument("--sets", nargs="*", default=ASKED, choices=ASKED, help="the zero-shot sets")
    parser.add_argument("--steps", nargs="*", default=STEPS, choices=STEPS, help="what is measured of each")
    parser.add_argument("--networks", type=Path, default=Path("llm_structured"), help="directory that they are kept in")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    warnings.simplefilter("ignore")
    torch.set_float32_matmul_precision(given.precision)
    model, tokenizer = opened(given.model)
    task = task_of(model, tokenizer, given.windows, given.sequences)
    done = json.loads(given.output.read_text()) if given.output.exists() else {}
    done["protocol"] = {
        "evaluation": f"wikitext-2 test, {task.manifest['protocol']}",
        "calibration": f"wikitext-2 validation, {given.sequences} x 512 tokens, of which at most {given.most}",
        "products": f"float32 at precision {given.precision}",
        "elsewhere": "tinyshakespeare, second half, 20 windows of 512 tokens",
        "tokens_per_second": "128 tokens, batch 1, float32 at precision highest, in pairs with the dense network",
        "zero_shot": "examples evenly spaced over each set, as many as the readings say, in bfloat16",
        "threads": torch.get_num_threads(),
    }
    done["machine"] = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    rows = done.setdefault("methods", {})
    for name in given.methods:
        dense = Candidate(model, tokenizer, rows.get(name, {}))
        if not set(given.steps) <= set(ready(dense.row, given)):
            found = dense if name == "dense" else pruned_(name, dense, task, given)
            rows[name] = measured(found, None if name == "dense" else model, task, given)
            given.output.parent.mkdir(exist_ok=True)
            given.output.write_text(json.dumps(done, indent=1, default=str) + "\n")
        it = rows[name]
        size, speed = it["parameters"] / 1e6, it.get("tokens_per_second_over_dense", [math.nan])[0]
        asked = "".join(f"  {n} {r['value']:.3f}" for n, r in it.get("zero_shot", {}).items())
        text = f"perplexity {it['perplexity']:8.2f} (elsewhere {it.get('elsewhere', math.nan):8.2f})"
        print(f"{name:28s} {text}  {size:7.2f} M parameters  speed {speed:.2f}{asked}")


if __name__ == "__main__":
    main()
