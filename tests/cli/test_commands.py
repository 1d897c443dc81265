"""Each command from end to end on small networks: a table for a person, one JSON object for a program."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from secateurs.cli import main
from secateurs.cli.progress import QUIET
from secateurs.job import again, demo, measuring, pruning, running
from secateurs.job.measuring import Settings
from secateurs.names import call
from secateurs.search.costs import Budget

NET = """
import torch
from torch import nn
from secateurs.tasks.image_classification import ImageOptions, Images, image_classification

def build():
    print("a print of the user's own")
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))

def task():
    torch.manual_seed(0)
    images = Images(torch.randn(30, 1, 4, 4), torch.arange(30) % 3)
    return image_classification("thirty", dict(train=images, select=images, final=images), ImageOptions(examples=4))
"""
SHORT = partial(Settings, latency_seconds=0.05, energy_seconds=0.02)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, os.environ.get(name, value))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measuring, "Settings", SHORT)
    monkeypatch.setattr(pruning, "Settings", SHORT)
    monkeypatch.setattr(pruning, "Budget", lambda **_: Budget(0.02, 0.02, 0.02, 0.02))
    (tmp_path / "net_cli.py").write_text(NET)
    (tmp_path / "recipe.yaml").write_text("structure: [neuron]\ncriterion: magnitude\n")
    yield tmp_path
    sys.modules.pop("net_cli", None)


def _run(command: str) -> Result:
    result = CliRunner().invoke(main, command.split(), prog_name="secateurs")
    assert result.exit_code == 0, result.stderr
    return result


def _json(command: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_run(f"{command} --json").stdout)
    return found


def test_prune_then_inspect_measure_and_compare(directory: Path) -> None:
    prune = "prune net_cli.py:build --task net_cli.py:task --epsilon 0.9 --recipe recipe.yaml --p 0.5 --output out"
    found = _json(prune)
    assert set(found) >= {"dense", "pruned", "ratio", "epsilon", "held", "front", "artifact"}
    assert (found["epsilon"], found["held"], found["artifact"]) == (0.9, True, "out")
    assert found["ratio"]["macs"] == 0.5
    build = "--build net_cli.py:build"
    dims = _json(f"inspect out --shape 4x1x4x4 {build}")
    assert {cost["dim"]["size"] for cost in dims["costs"] if cost["dim"]["frozen"] is None} == {6}
    measured = _json(f"measure out --task net_cli.py:task {build}")["measures"]
    assert measured["macs"]["value"] == found["pruned"]["macs"]["value"] == dims["macs"]
    assert measured["accuracy"]["value"] == found["pruned"]["accuracy"]["value"]
    compared = _json("compare net_cli.py:build out --task net_cli.py:task")
    assert compared["ratio"]["parameters"] == found["ratio"]["parameters"]
    shown = _run("compare net_cli.py:build out --task net_cli.py:task").stdout
    for text in ("accuracy", "parameters", "MACs", "latency", "energy", "-50.0 %"):
        assert text in shown


def test_prune_shows_the_search_the_comparison_and_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "measure_elsewhere", again.measure)  # once in a new process is enough, above
    command = "prune net_cli.py:build --task net_cli.py:task --epsilon 0.9 --recipe recipe.yaml --tolerance 0.4"
    shown = _run(command).stdout
    for text in (
        "sparsities evaluated",
        "chosen",
        "dense",
        "pruned",
        "The bound holds",
        "net_cli-build-pruned",
        "build=...",
    ):
        assert text in shown
    assert "a print" not in shown


def test_inspect_for_a_person() -> None:
    shown = _run("inspect net_cli.py:build --shape 1x1x4x4 --carriers").stdout
    for text in (
        "1 dims that can shrink",
        "neurons",
        "1.weight[0]",
        "3.weight[1]",
        "frozen because",
        "an output of the model",
    ):
        assert text in shown


def test_inspect_draws(directory: Path) -> None:
    shown = _run("inspect net_cli.py:build --shape 1x1x4x4 --dot dims.dot --html dims.html").stdout
    assert "Drawn in dims.dot" in shown and "Drawn in dims.html" in shown
    assert '"2. 3"' in (directory / "dims.dot").read_text(encoding="utf-8")
    assert "net_cli.py:build: 243 parameters" in (directory / "dims.html").read_text(encoding="utf-8")
    again = CliRunner().invoke(main, ["inspect", "no_such.py:build", "--dot", "dims.dot"], prog_name="secateurs")
    assert again.exit_code == 2 and "dims.dot exists" in again.stderr


def test_measure_for_a_person() -> None:
    assert "peak memory" in _run("measure net_cli.py:build --task net_cli.py:task").stdout


def test_demo_says_where_the_files_lie_and_what_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[demo.Demo] = []

    def run(self: demo.Demo) -> Any:
        made.append(self)
        job = pruning.Job(
            pruning.load_recipe("recipe.yaml"), pruning.Wanted(0.9).algorithm(), Path("again"), p=0.5, settings=SHORT()
        )
        return job(call("net_cli.py:build").eval(), call("net_cli.py:task"))

    monkeypatch.setattr(demo.Demo, "__call__", run)
    shown = _run("demo --model vit --epsilon 0.02 --seed 3").stdout
    assert made == [demo.Demo("vit", 0.02, Path("secateurs-demo-vit"), 3, made[0].settings)]
    for text in ("Dense network:", "secateurs-demo-vit/dense", "Pruned network:", "Next:", "secateurs prune"):
        assert text in shown


def test_finetune_says_what_comes_next(directory: Path) -> None:
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    config = transformers.BertConfig(
        vocab_size=len(words), num_hidden_layers=1, hidden_size=8, intermediate_size=8, num_attention_heads=2
    )
    transformers.BertModel(config).save_pretrained("pretrained")
    (directory / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast("vocab.txt").save_pretrained("pretrained")
    (directory / "texts.csv").write_text("sentence,label\n" + "good,1\nbad,0\n" * 40)
    task = "--task text --train-file texts.csv --evaluation-file texts.csv"
    shown = _run(f"finetune pretrained {task} --output tuned").stdout
    assert f"secateurs prune tuned {task} --epsilon 0.01" in shown
    assert "accuracy, final" in shown
    told = _json(f"finetune pretrained {task} --output tuned2 --epochs 0.5")
    assert set(told["readings"]) == {"select", "final"}
    assert _json("inspect tuned")["parameters"] > 0
