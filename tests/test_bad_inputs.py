"""Whatever is wrong with the input: one clear line on stderr, exit code 2, nothing lost, nothing half-written.

``pytest -s`` shows the lines. The slow tests give the same commands to a process of their own.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors import SafetensorError
from safetensors.torch import save_file

from secateurs import archive
from secateurs.cli import main
from secateurs.cli.progress import QUIET

NET = """
from dataclasses import replace
import torch
from torch import nn
from secateurs.tasks.image_classification import ImageOptions, Images, image_classification

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))

def other_shape():
    return nn.Sequential(nn.Flatten(), nn.Linear(15, 12), nn.ReLU(), nn.Linear(12, 3))

def images(n=60, n_classes=3):
    torch.manual_seed(0)
    return Images(torch.randn(n, 1, 4, 4), torch.arange(n) % n_classes)

def made(them):
    return image_classification("sixty", {"train": them, "select": them, "final": them}, ImageOptions(examples=4))

def task():
    return made(images())

def empty():
    return made(images(0))

def bad_train():
    good = task()
    return replace(good, splits={**good.splits, "train": [(p, y + 1) for p, y in good.splits["train"]]})

def no_final():
    good = task()
    return replace(good, splits={name: good.splits[name] for name in ("train", "select")})

def four_classes():
    return made(images(60, 4))

def nan_buffer():
    net = build()
    net.register_buffer("scale", torch.tensor([1.0, float("nan")]))
    return net

def empty_batch():
    good = task()
    none = [(p[:0], y[:0]) for p, y in good.splits["select"]]
    return replace(good, splits={**good.splits, "select": none})
"""
RECIPE = "structure: [neuron]\ncriterion: magnitude\n"
PRUNE = "prune net.py:build --task net.py:task --epsilon 0.1 --recipe recipe.yaml --output out"


@dataclass(frozen=True)
class Bad:
    """A command, what its line must say, and what to do to the directory first."""

    command: str
    says: str
    first: Callable[[Path], object] = lambda directory: None


def _nan(directory: Path) -> None:
    from torch import nn

    torch.manual_seed(0)
    state = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)).state_dict()
    state["1.weight"][3, 4] = math.nan
    save_file(state, directory / "nan.safetensors")


def _artifact(directory: Path) -> Path:
    """A pruned network as ``secateurs.save`` writes it."""
    from secateurs import load_recipe, prune, save
    from secateurs.deploy import Function
    from secateurs.names import call

    task, model = call(f"{directory / 'net.py'}:task"), call(f"{directory / 'net.py'}:build").eval()
    recipe = load_recipe(str(directory / "recipe.yaml"))
    pruned = prune(model, task, recipe, 0.3)
    save(directory / "artifact", pruned, recipe=recipe, manifest={}, build=Function(f"{directory / 'net.py'}:build"))
    return directory / "artifact"


def _truncated(directory: Path) -> None:
    weights = _artifact(directory) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20])


def _tampered(directory: Path) -> None:
    weights = _artifact(directory) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)


def _missing_part(directory: Path) -> None:
    (_artifact(directory) / "plan.safetensors").unlink()


def _tables(directory: Path) -> None:
    (directory / "texts.csv").write_text("text,label\n" + "good,1\nbad,0\n" * 4)
    (directory / "no_rows.csv").write_text("text,label\n")
    (directory / "labels.csv").write_text("text,label\n" + "good,1\nbad,7\n" * 4)


def _classifier(directory: Path) -> None:
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    config = transformers.BertConfig(
        vocab_size=len(words), num_hidden_layers=1, hidden_size=8, intermediate_size=8, num_attention_heads=2
    )
    transformers.BertForSequenceClassification(config).save_pretrained(directory / "bert")
    (directory / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(str(directory / "vocab.txt")).save_pretrained(directory / "bert")
    _tables(directory)


def _language_model(directory: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=12, num_hidden_layers=1, hidden_size=8, intermediate_size=8, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(directory / "llama")
    torch.save(torch.randint(0, 12, (90,)), directory / "ids.pt")
    torch.save(torch.full((90,), 12), directory / "others.pt")
    (directory / "a.txt").write_text("a text")
    (directory / "lambada.jsonl").write_text('{"text": "a b"}\n')


def _cut_weights(directory: Path) -> None:
    _classifier(directory)
    weights = directory / "bert" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


def _with_task(directory: Path) -> None:
    """An artifact of a user's own task, as ``secateurs prune`` writes it."""
    path = _artifact(directory) / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "task_name": {"name": "net.py:task", "options": {}}}))


def _text(path: Path) -> None:
    path.write_text("these are no weights\n" * 20)


def _latin(directory: Path) -> None:
    _classifier(directory)
    (directory / "latin.csv").write_bytes("text,label\nna\u00efve,1\ngood,0\n".encode("latin-1"))


def _last(cell: str) -> Callable[[Path], None]:
    def first(directory: Path) -> None:
        _classifier(directory)
        (directory / "x.csv").write_text("text,label\n" + "good,1\nbad,0\n" * 4 + f"good,{cell}\n")

    return first


LLAMA = "prune llama --task language_modelling --epsilon 1 --output out"
BERT = "prune bert --task text --epsilon 0.1 --text text --output out"
BUILD = "--build net.py:build"
CASES = {
    "unknown key in a recipe": Bad(
        PRUNE, "did you mean", lambda d: (d / "recipe.yaml").write_text(RECIPE.replace("criterion", "criterium"))
    ),
    "unknown field of a part": Bad(
        PRUNE,
        "unknown field 'q'",
        lambda d: (d / "recipe.yaml").write_text("structure: [neuron]\ncriterion: {magnitude: {q: 1}}"),
    ),
    "unknown recipe": Bad(PRUNE.replace("recipe.yaml", "convent"), "convnet"),
    "epsilon above 1": Bad(PRUNE.replace("0.1", "1.5"), "epsilon must be in [0, 1)"),
    "epsilon below 0": Bad(PRUNE.replace("0.1", "-0.1"), "epsilon must be in [0, inf)"),
    "epsilon is nan": Bad(PRUNE.replace("0.1", "nan"), "epsilon must be in [0, inf)"),
    "epsilon is no number": Bad(PRUNE.replace("0.1", "little"), "'little' is not a valid float"),
    "epsilon of the demo": Bad("demo --epsilon 1 --output out", "epsilon must be in [0, 1)"),
    "p of 0": Bad(f"{PRUNE} --p 0", "p must be in (0, 1)"),
    "p of 1": Bad(f"{PRUNE} --p 1", "p must be in (0, 1)"),
    "p is nan": Bad(f"{PRUNE} --p nan", "p must be in (0, 1)"),
    "empty data": Bad(PRUNE.replace(":task", ":empty"), "missing or empty"),
    "empty table": Bad(f"{BERT} --train texts.csv --eval no_rows.csv", "no_rows.csv has no rows", _classifier),
    "labels outside the range": Bad(PRUNE.replace(":task", ":four_classes"), "label"),
    "labels outside the range, in training": Bad(
        PRUNE.replace(":task", ":bad_train").replace("recipe.yaml", "default"), "IndexError: Target 3 is out of bounds"
    ),
    "no final split": Bad(PRUNE.replace(":task", ":no_final"), "has no split 'final'"),
    "labels outside the range, in a table": Bad(
        f"{BERT} --train texts.csv --eval labels.csv", "7 is outside the model's 2 classes", _classifier
    ),
    "no such column": Bad(
        f"{BERT} --train texts.csv --eval texts.csv --label lable", "did you mean 'label'", _classifier
    ),
    "forward fails": Bad(PRUNE.replace(":build", ":other_shape"), "fails on the example inputs"),
    "NaN in the weights": Bad(f"{PRUNE} --weights nan.safetensors", "1.weight holds NaN", _nan),
    "a directory that is no model": Bad(
        PRUNE.replace("net.py:build", "empty"), "is no model", lambda d: (d / "empty").mkdir()
    ),
    "truncated weights of a model": Bad(
        f"{BERT} --train texts.csv --eval texts.csv", "holds no sequence classifier that can be loaded", _cut_weights
    ),
    "truncated artifact": Bad(
        f"measure artifact --task net.py:task {BUILD}", "model.safetensors is not as", _truncated
    ),
    "tampered artifact": Bad(f"measure artifact --task net.py:task {BUILD}", "model.safetensors is not as", _tampered),
    "artifact with a missing file": Bad(
        "compare net.py:build artifact --task net.py:task", "plan.safetensors is missing", _missing_part
    ),
    "an artifact that would run code": Bad("inspect artifact --shape 1x1x4x4", "allow it by --build", _artifact),
    "the output exists": Bad(PRUNE, "the output directory out exists", lambda d: (d / "out").mkdir()),
    "the output of the demo exists": Bad(
        "demo --output out", "the output directory out exists", lambda d: (d / "out").mkdir()
    ),
    "the output of finetune exists": Bad(
        "finetune bert --task glue/sst2 --output out", "the output directory out exists", lambda d: (d / "out").mkdir()
    ),
    "no such task": Bad(PRUNE.replace("net.py:task", "imagenet"), "no task 'imagenet'"),
    "no such function": Bad(PRUNE.replace(":build", ":biuld"), "did you mean 'build'"),
    "no such file": Bad(PRUNE.replace("net.py:build", "nat.py:build"), "no file nat.py"),
    "no such preference": Bad(f"{PRUNE} --prefer latencies", "did you mean 'latency'"),
    "no such option": Bad(f"{PRUNE} --epsylon 0.1", "--epsylon"),
    "no example inputs": Bad("inspect net.py:build", "give --shape"),
    "not a shape": Bad("inspect net.py:build --shape 1x-2", "is not a shape"),
    "forward fails in inspect": Bad("inspect net.py:build --shape 1x1x5x5", "fails on the example inputs"),
    "no task": Bad("measure net.py:build", "give --task"),
    "an artifact whose task is code": Bad(
        "measure artifact",
        "artifact was made for net.py:task, and code that a file names is not run by itself: allow it by "
        "--task net.py:task --build ",
        _with_task,
    ),
    "an artifact whose inputs are code's": Bad(
        "inspect artifact", "allow it by --task net.py:task --build ", _with_task
    ),
    "an artifact whose code may run but for the task's": Bad(
        f"measure artifact {BUILD}", "allow it by --task net.py:task", _with_task
    ),
    "an artifact without its manifest": Bad(
        "measure artifact --task net.py:task",
        "an artifact without its manifest.json",
        lambda d: (_artifact(d) / "manifest.json").unlink(),
    ),
    "a directory that is not there": Bad(PRUNE.replace("net.py:build", "./mine/model"), "no directory './mine/model'"),
    "a directory that is not in one that is": Bad(
        PRUNE.replace("net.py:build", "models/mine"), "no directory 'models/mine'", lambda d: (d / "models").mkdir()
    ),
    "weights that are none": Bad(
        f"{PRUNE} --weights weights.pt", "holds no weights that can be read: give", lambda d: _text(d / "weights.pt")
    ),
    "weights that are none, of the other format": Bad(
        f"{PRUNE} --weights weights.safetensors",
        "holds no weights that can be read: give",
        lambda d: _text(d / "weights.safetensors"),
    ),
    "NaN in a buffer": Bad(PRUNE.replace(":build", ":nan_buffer"), "scale holds NaN"),
    "an empty batch": Bad(
        PRUNE.replace(":task", ":empty_batch"), "batch 1 of split 'select' of task 'sixty' holds no examples"
    ),
    "a table in another encoding": Bad(f"{BERT} --train texts.csv --eval latin.csv", "latin.csv is not UTF-8", _latin),
    "a label that is no number at the end of a table": Bad(
        f"{BERT} --train texts.csv --eval x.csv", "x.csv row 9: label 'x' is no label", _last("x")
    ),
    "a label that is missing at the end of a table": Bad(
        f"{BERT} --train texts.csv --eval x.csv", "x.csv row 9 has nothing in column 'label'", _last("")
    ),
    "no text for a language model": Bad(LLAMA, "needs --data", _language_model),
    "a text that is not there": Bad(f"{LLAMA} --data b.txt", "no such file: b.txt", _language_model),
    "a text shorter than a sequence": Bad(
        f"{LLAMA} --data ids.pt", "shorter than one sequence of 512", _language_model
    ),
    "a text without a tokenizer": Bad(f"{LLAMA} --data a.txt", "the model has no tokenizer", _language_model),
    "tokens of another vocabulary": Bad(
        f"{LLAMA} --data others.pt --length 9", "token 12 of the train text is outside", _language_model
    ),
    "an option of another task": Bad(f"{LLAMA} --data ids.pt --label x", "has no 'label'", _language_model),
    "a sequence of one token": Bad(f"{LLAMA} --data ids.pt --length 1", "length must be at least 2", _language_model),
    "a language model for a task of classes": Bad(
        "measure llama --task text --train ids.csv --eval ids.csv", "has none", _language_model
    ),
    "no such set to evaluate on": Bad("evaluate llama --tasks lambda --data .", "no task 'lambda'", _language_model),
    "a set that is not there": Bad("evaluate llama --tasks piqa --data .", "piqa needs it", _language_model),
    "a limit of nothing": Bad("evaluate llama --tasks lambada --data . --limit 0", "at least 1", _language_model),
    "a sparsity out of reach": Bad(f"{PRUNE} --p 0.99", "p 0.99 is out of reach"),
}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, os.environ.get(name, value))
    monkeypatch.delenv("SECATEURS_DEBUG", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    yield tmp_path
    for name in [
        name for name, it in sys.modules.items() if str(getattr(it, "__file__", "")).startswith(str(tmp_path))
    ]:
        del sys.modules[name]


def _files(directory: Path) -> dict[str, bytes]:
    found = {
        path.relative_to(directory): path for path in sorted(directory.rglob("*")) if "__pycache__" not in path.parts
    }
    return {str(name): path.read_bytes() if path.is_file() else b"" for name, path in found.items()}


def _check(name: str, code: int, out: str, err: str) -> None:
    lines = [line for line in err.splitlines() if not line.startswith("[")]  # progress, on a slow machine
    print(f"\n{name}: exit code {code}: {' | '.join(lines)}")
    assert code == 2, err
    assert out == ""
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert CASES[name].says in lines[0]


@pytest.mark.parametrize("name", CASES)
def test_one_line_and_nothing_written(name: str, directory: Path) -> None:
    CASES[name].first(directory)
    before = _files(directory)
    result = CliRunner().invoke(main, CASES[name].command.split(), prog_name="secateurs")
    _check(name, result.exit_code, result.stdout, result.stderr)
    assert _files(directory) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_one_line_from_a_process_of_its_own(name: str, directory: Path) -> None:
    CASES[name].first(directory)
    before = _files(directory)
    command = [sys.executable, "-m", "secateurs", *CASES[name].command.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    _check(name, done.returncode, done.stdout, done.stderr)
    assert _files(directory) == before


def test_a_full_disk_is_one_line_and_loses_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from secateurs.job import pruning
    from secateurs.search.costs import Budget

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(pruning, "Budget", lambda **_: Budget(latency_seconds=0.02, energy_seconds=0.02))
    monkeypatch.setattr(archive, "save_file", full)
    result = CliRunner().invoke(main, [*PRUNE.replace("0.1", "0.9").split(), "--p", "0.3"], prog_name="secateurs")
    print(f"\na full disk: exit code {result.exit_code}: {result.stderr.strip()}")
    assert result.exit_code == 2
    assert [line for line in result.stderr.splitlines() if not line.startswith("[")] == [result.stderr.splitlines()[-1]]
    assert "is full" in result.stderr
    assert not (directory / "out").exists()


def test_json_is_asked_for_and_there_is_none(directory: Path) -> None:
    result = CliRunner().invoke(main, [*CASES["p of 0"].command.split(), "--json"], prog_name="secateurs")
    assert (result.exit_code, result.stdout) == (2, "")


def test_the_same_network_asked_well_is_no_error(directory: Path) -> None:
    command = ["inspect", "net.py:build", "--shape", "1x1x4x4", "--json"]
    result = CliRunner().invoke(main, command, prog_name="secateurs")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["parameters"] == 16 * 12 + 12 + 12 * 3 + 3
