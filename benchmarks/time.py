"""How long does it take to find what can go, to decide, and to make the network smaller? Beside Torch-Pruning 1.6.1.

    python benchmarks/time.py

Two questions. On networks of BERT-base's and ResNet-50's form, 30 % of the units of every structure by magnitude: CPU
seconds of ours over CPU seconds of Torch-Pruning, in pairs, each pair on a fresh copy, the two in random order. And how
do the seconds grow with depth, on narrow networks of 2 to 96 layers: the exponent of a straight line through the
logarithms (1 is linear).

Ours is counted from the network to the smaller one that a user holds, in the steps of ``prune``: the trace; the
decision (groups, scores, allocation, selection); the shrinking; and the proof of the result, a masked and a shrunk
forward pass. ``prune()`` as a whole, which leaves the network alone and hands out the masked one with the smaller one,
is measured beside it. Torch-Pruning is its pruner with the heads given as its transformer examples do; it prunes in
place and proves nothing: its seconds compare with ours without the proof.

Torch-Pruning is needed by this file alone: ``pip install torch-pruning==1.6.1 --no-deps``.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import platform
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from oracle import Inputs, torch_pruning
from torch import nn

from secateurs import Recipe, Task, evidence, proof, prune, surgery
from secateurs.graph.agreement import Reference
from secateurs.measures.instruments.intervals import median_interval
from secateurs.measures.parameters import Parameters
from secateurs.prune import traced
from secateurs.select import select

Net = tuple[nn.Module, Inputs]
RECIPE = {"structure": ["channel", "head", "neuron"], "criterion": "magnitude", "allocation": "uniform"}
RATIO = 0.3


def bert(layers: int = 12, width: int = 768, head_dim: int = 64, vocabulary: int = 30522) -> Net:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": 4 * width}
    config = BertConfig(vocab_size=vocabulary, num_attention_heads=width // head_dim, **sizes)
    return BertForSequenceClassification(config), {"input_ids": torch.randint(0, 99, (1, 16))}


def resnet() -> Net:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig(num_labels=1000)), {"pixel_values": torch.randn(1, 3, 64, 64)}


def llama(layers: int, width: int = 64) -> Net:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": 2 * width, "vocab_size": 100}
    config = LlamaConfig(num_attention_heads=8, num_key_value_heads=4, head_dim=8, use_cache=False, **sizes)
    return LlamaForCausalLM(config), {"input_ids": torch.randint(0, 99, (1, 16))}


def vgg(layers: int, width: int = 16) -> Net:
    """Convolutions one after the other, each with a norm."""
    parts: list[nn.Module] = []
    for i in range(layers):
        parts += [nn.Conv2d(width if i else 3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)), {
        "input": torch.randn(1, 3, 16, 16)
    }


SHAPES: dict[str, Callable[[], Net]] = {"BERT-base": bert, "ResNet-50, 64 px": resnet}
DEEP: dict[str, Callable[[int], Net]] = {
    "BERT, width 64": partial(bert, width=64, head_dim=8, vocabulary=100),
    "LLaMA, width 64, GQA 8/4": llama,
    "convolutions, width 16": vgg,
}


def task_of(inputs: Inputs) -> Task:
    def unused(model: nn.Module, batch: object) -> Any:
        raise NotImplementedError

    return Task("time", inputs, {"train": ()}, loss=unused, predict=unused, quality=Parameters())


@contextmanager
def proving() -> Iterator[list[float]]:
    """While open, the CPU seconds of the forward passes of proofs, and of comparing what they give."""
    seconds: list[float] = []

    def timed(run: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            start = time.process_time()
            try:
                return run(*args)
            finally:
                seconds.append(time.process_time() - start)

        return call

    with (
        patch.object(proof, "glance", timed(proof.glance)),
        patch.object(proof, "reference", timed(proof.reference)),
        patch.object(Reference, "compared", timed(Reference.compared)),
    ):
        yield seconds


def ours(model: nn.Module, inputs: Inputs) -> dict[str, float]:
    """CPU seconds of every step; the groups are not tried first, as ``prune`` does not where this is all it does."""
    recipe, task = Recipe.from_dict(RECIPE), task_of(inputs)
    clock = [time.process_time()]
    network = traced(model, inputs, recipe)
    clock.append(time.process_time())
    groups = [group for structure in recipe.structure for group in structure(network)]
    scores = evidence.scores(model, groups, recipe.criterion, task, recipe.calibration_batches)
    price = network.price(groups, recipe.allocation.currency)
    plan = select(groups, scores, recipe.allocation(groups, scores, RATIO, price))
    clock.append(time.process_time())
    with proving() as seconds:
        small = surgery.shrink(model, groups, plan, network, inputs).model
    clock.append(time.process_time())
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    steps = dict(zip(("trace", "decide", "shrink"), np.diff(clock).tolist(), strict=True))
    return {**steps, "shrink": steps["shrink"] - sum(seconds), "proof": sum(seconds)}


def whole(model: nn.Module, inputs: Inputs) -> dict[str, float]:
    start = time.process_time()
    prune(model, task_of(inputs), Recipe.from_dict(RECIPE), RATIO)
    return {"all": time.process_time() - start}


def theirs(model: nn.Module, inputs: Inputs) -> dict[str, float]:
    start = time.process_time()
    if "input" in inputs:  # a network without named outputs; the last layer stays, as in the others
        import torch_pruning as tp

        last = list(model.modules())[-1]
        importance = tp.importance.GroupMagnitudeImportance(p=2)
        settings = {"importance": importance, "pruning_ratio": RATIO, "ignored_layers": [last]}
        tp.pruner.BasePruner(model, example_inputs=inputs["input"], **settings).step()
    else:
        torch_pruning(model, inputs, RATIO, heads=True)
    return {"all": time.process_time() - start}


TOOLS = {"ours": ours, "prune": whole, "theirs": theirs}


def timed(tool: str, net: Net) -> tuple[float, dict[str, float]]:
    model = copy.deepcopy(net[0])
    steps = TOOLS[tool](model, net[1])
    return sum(steps.values()), steps


def built(make: Callable[[], Net]) -> Net:
    torch.manual_seed(0)
    model, inputs = make()
    return model.eval(), inputs


def pairs(name: str, n: int) -> dict[str, Any]:
    net = built(SHAPES[name])
    for tool in TOOLS:  # imports and first calls are no tool's time
        timed(tool, net)
    seconds: dict[str, list[float]] = {tool: [] for tool in TOOLS}
    steps: list[dict[str, float]] = []
    order = random.Random(0)
    for _ in range(n):
        for tool in order.sample(sorted(TOOLS), len(TOOLS)):
            total, parts = timed(tool, net)
            seconds[tool].append(total)
            steps += [parts] if tool == "ours" else []
    logs = np.log(np.array(seconds["ours"]) / np.array(seconds["theirs"]))
    low, high = median_interval(logs, seed=0)
    ratio = {"ratio": float(np.exp(np.median(logs))), "low": float(np.exp(low)), "high": float(np.exp(high))}
    unproven = [sum(each.values()) - each["proof"] for each in steps]
    ratio["ratio_without_proof"] = float(np.median(np.array(unproven) / np.array(seconds["theirs"])))
    middle = {tool: float(np.median(values)) for tool, values in seconds.items()}
    parts = {step: float(np.median([each[step] for each in steps])) for step in steps[0]}
    return {"network": name, "pairs": n, **middle, **ratio, "steps": parts}


def depths(name: str, tool: str, layers: list[int]) -> dict[str, Any]:
    timed(tool, built(partial(DEEP[name], layers[0])))
    seconds = {n: timed(tool, built(partial(DEEP[name], n)))[0] for n in layers}
    return {"network": name, "tool": tool, "seconds": seconds, "exponent": exponent(seconds)}


def exponent(seconds: dict[int, float]) -> float:
    """The slope of the straight line through the logarithms."""
    slope, _ = np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)
    return float(slope)


def told_pairs(row: dict[str, Any]) -> str:
    parts = ", ".join(f"{step} {seconds:.2f}" for step, seconds in row["steps"].items())
    interval = f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    alike = f"without proof {row['ratio_without_proof']:.2f}"
    times = f"{row['ours']:8.2f}{row['prune']:8.2f}{row['theirs']:9.2f}"
    return f"{row['network']:18}{times}   {interval}, {alike}   ({parts})"


def told_depths(row: dict[str, Any]) -> str:
    cells = ", ".join(f"{layers}: {seconds:.2f}" for layers, seconds in row["seconds"].items())
    return f"{row['network']:26}{row['tool']:8}exponent {row['exponent']:.2f}   ({cells})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="of each of the two networks")
    parser.add_argument("--layers", type=int, nargs="*", default=[2, 8, 32, 96], help="depths of ours")
    parser.add_argument(
        "--their-layers", type=int, nargs="*", default=[2, 8], help="depths of Torch-Pruning, which takes minutes at 32"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "time.json")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    shapes, deep = [], []
    print(f"{'CPU seconds':18}{'ours':>8}{'prune()':>8}{'theirs':>9}   ratio [95 %]", flush=True)
    for name in SHAPES if given.pairs else ():
        shapes.append(pairs(name, given.pairs))
        print(told_pairs(shapes[-1]), flush=True)
    for name in DEEP:
        for tool, layers in (("ours", given.layers), ("theirs", given.their_layers)):
            if layers:
                deep.append(depths(name, tool, layers))
                print(told_depths(deep[-1]), flush=True)
    machine = {"processor": platform.machine(), "python": platform.python_version(), "torch": torch.__version__}
    document = {"ratio": RATIO, "machine": machine, "shapes": shapes, "depths": deep}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
