"""Iterative magnitude pruning of SmolLM2-135M, with and without fine-tuning: what it still can at each rate.

    SECATEURS_DATA=... python benchmarks/llm_study.py --model DIRECTORY

The smallest 10, 30 and 50 % of every layer's weights go. Without fine-tuning each rate is one step from the dense
model. With it the three rates are one iterative run: at each the weights that stay are trained on sequences of
wikitext-2's validation text, drawn at random, before the next step goes on from there (AdamW, an L1 norm in the loss).

Asked are LAMBADA, HellaSwag and WebQuestions through lm-evaluation-harness, zero-shot, on examples evenly spaced over
each set, the model in bfloat16; and perplexity over the first windows of wikitext-2's test text. Results are kept after
every rate, so a run that is cut short goes on where it was.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import os
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateurs import Pruned, Recipe, Task, trace
from secateurs.measures.perplexity import Perplexity
from secateurs.prune import prune
from secateurs.report.document import readings
from secateurs.tasks.language_modelling import LanguageData, language_modelling
from secateurs.tasks.pretrained import load_language_model
from secateurs.tasks.zero_shot import ZeroShot

RESULTS = Path(__file__).parent / "results" / "llm_study.json"
RATES = (0.1, 0.3, 0.5)
ASKED = ("lambada", "hellaswag", "webqs")
RECIPE = """
structure: {weight: {per: layer}}
criterion: {magnitude: {p: 1}}
allocation: uniform
schedule: one_shot
recovery: nothing
"""


def recipe(tuned: bool, given: argparse.Namespace) -> Recipe:
    made = Recipe.from_yaml(RECIPE).to_dict()
    if tuned:
        fields = {"epochs": given.epochs, "learning_rate": given.learning_rate, "l1": given.l1, "evaluations": 1}
        made["recovery"] = {"fine_tune": fields}
    return Recipe.from_dict(made)


def task_of(model: nn.Module, tokenizer: Any, given: argparse.Namespace) -> Task:
    text = Path(os.environ["SECATEURS_DATA"]) / "wikitext2"
    valid, test = text / "wiki.valid.tokens.txt.gz", text / "wiki.test.tokens.txt.gz"
    healing = LanguageData(valid, test, valid, length=256, count=given.sequences, starts="random", batch_size=2)
    judging = LanguageData(valid, test, valid, count=1, windows=given.windows)
    healed = language_modelling(model, tokenizer, healing)
    judged = language_modelling(model, tokenizer, judging)
    splits = {"train": healed.splits["train"], "select": judged.splits["select"], "final": judged.splits["final"]}
    manifest = {"train": healed.manifest, **judged.manifest}
    return Task(judged.name, judged.example_inputs, splits, judged.loss, judged.predict, judged.quality, manifest)


def asked(model: nn.Module, tokenizer: Any, task: Task, given: argparse.Namespace) -> dict[str, Any]:
    began = time.process_time()
    found = {"perplexity": Perplexity()(model, task)}
    half = copy.deepcopy(model).bfloat16()
    data = Path(os.environ["SECATEURS_DATA"])
    found |= ZeroShot(ASKED, data, limit=given.limit, batch_size=given.batch_size)(half, tokenizer)
    weights = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
    zeros = sum(int((p == 0).sum()) for p in weights) / sum(p.numel() for p in weights)
    return {"readings": readings(found), "zeros": zeros, "cpu_seconds_evaluation": time.process_time() - began}


def sweep(model: nn.Module, tokenizer: Any, task: Task, given: argparse.Namespace, kept: Results) -> None:
    if "dense" not in kept:
        kept["dense"] = asked(model, tokenizer, task, given)
    network = trace(model, {n: x[:, :16] if hasattr(x, "shape") else x for n, x in dict(task.example_inputs).items()})  # type: ignore[arg-type]
    for tuned in (False, True):
        start: Pruned | None = None
        for rate in RATES:
            name = f"{rate:g} {'with' if tuned else 'without'} fine-tuning"
            later = [f"{r:g} with fine-tuning" for r in RATES if r >= rate]
            if name in kept and (not tuned or all(each in kept for each in later)):
                continue
            torch.manual_seed(0)
            began = time.process_time()
            start = prune(model, task, recipe(tuned, given), rate, start=start if tuned else None, network=network)
            seconds = time.process_time() - began
            if name not in kept:
                kept[name] = {"cpu_seconds_pruning": seconds, **asked(start.model, tokenizer, task, given)}


class Results(dict[str, Any]):
    """Written to a file whenever something is added."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        super().__init__(known.get("results", {}) if known.get("about") == about else {})
        self.path, self.about = path, about

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        found = {"about": self.about, "results": dict(self)}
        self.path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def table(kept: Results) -> str:
    names = list(next(iter(kept.values()))["readings"])
    lines = [f"{'':26}" + "".join(f"{name:>22}" for name in names)]
    for label, found in kept.items():
        values = [found["readings"][name]["value"] for name in names]
        lines.append(f"{label:26}" + "".join(f"{value:22.4g}" for value in values))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a transformers directory, or a GGUF file")
    parser.add_argument("--limit", type=int, default=64, help="examples of each set")
    parser.add_argument("--windows", type=int, default=12, help="of 512 tokens, for perplexity")
    parser.add_argument("--sequences", type=int, default=32, help="of 256 tokens, to train on")
    parser.add_argument("--epochs", type=float, default=1.0, help="per step")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--l1", type=float, default=1e-6)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--precision", default="medium", choices=["highest", "high", "medium"], help="of float32")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    warnings.simplefilter("ignore")
    torch.set_float32_matmul_precision(given.precision)
    model, tokenizer = load_language_model(given.model)
    task = task_of(model, tokenizer, given)
    about = {name: value for name, value in vars(given).items() if name not in ("output", "model")}
    about |= {"model": Path(given.model).name}
    about |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": platform.machine()}
    about |= {"recipe": recipe(True, given).to_dict(), "protocol": task.manifest["protocol"]}
    kept = Results(given.output, about)
    sweep(model, tokenizer, task, given, kept)
    print(table(kept))


if __name__ == "__main__":
    main()
