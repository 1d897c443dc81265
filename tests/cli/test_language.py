"""The commands for language models, from end to end."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from secateurs.cli import main
from secateurs.job import sparsifying
from secateurs.smaller import At, Smaller
from tasks.conftest import letter_tokenizer, tiny_llama

transformers = pytest.importorskip("transformers", reason="checkpoints are those of transformers")
CUT = "--length 16 --count 4 --recipe wanda"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_llama().save_pretrained(tmp_path / "dense")
    letter_tokenizer().save_pretrained(tmp_path / "dense")
    (tmp_path / "text.txt").write_text("it is a long road that has no turning. " * 40)
    return tmp_path


def _run(command: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, shlex.split(command), prog_name="secateurs")
    assert result.exit_code == code, result.stderr
    return result


def test_sparsify_for_a_person_and_the_command_that_comes_next(directory: Path) -> None:
    out = _run(f"sparsify dense --train text.txt {CUT} --sparsity 0.25").stdout
    assert "0.25" in out and "14 weights of the blocks" in out and "peak memory" in out
    model = transformers.LlamaForCausalLM.from_pretrained(directory / "dense-sparse")
    weight = model.get_parameter("model.layers.1.mlp.up_proj.weight")
    assert int((weight == 0).sum()) == weight.numel() // 4

    told = next(line for line in out.splitlines() if line.startswith("  secateurs measure"))
    assert shlex.split(told)[2:] == [
        "dense-sparse", "--task", "language_modelling", "--train-file", "text.txt", "--evaluation-file", "test.txt",
        "--length", "16",
    ]  # fmt: skip


def test_a_classifier_is_not_to_be_measured_as_a_language_model(directory: Path) -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 40}
    config = transformers.LlamaConfig(**sizes, num_hidden_layers=2, num_labels=2, pad_token_id=0)
    transformers.LlamaForSequenceClassification(config).save_pretrained(directory / "classes")
    out = _run("sparsify classes --recipe magnitude").stdout
    assert "Saved in classes-sparse" in out and "language_modelling" not in out


def test_sparsify_for_a_program(directory: Path) -> None:
    found = json.loads(_run(f"sparsify dense --data text.txt {CUT} --output out --json").stdout)
    assert found["sparsity"] == pytest.approx(0.5)
    assert found["written"]["directory"] == "out" and found["files"] > 0
    assert sum(found["written"]["zeros"].values()) * 2 == sum(found["written"]["entries"].values())


def test_what_was_interrupted_goes_on_by_the_same_command(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from secateurs.settling import Settling

    command = f"sparsify dense --data text.txt {CUT} --output out --shelf ."
    settle = Settling.__call__

    def stopped(self: Settling, name: str, multiplied: object) -> torch.Tensor:
        if name == "model.layers.1.mlp.up_proj.weight":
            raise KeyboardInterrupt
        return settle(self, name, multiplied)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Settling, "__call__", stopped)
        result = _run(command, 130)
    assert "run the same command again" in result.stderr
    assert sorted(it.name for it in directory.iterdir()) == ["dense", "out.partial", "text.txt"]
    out = _run(command).stdout
    assert "1 blocks were written before" in " ".join(out.split())
    assert sorted(it.name for it in directory.iterdir()) == ["dense", "out", "text.txt"]


def test_what_cannot_be_used_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparsifying, "prune_checkpoint", lambda *_: pytest.fail("no work"))
    line = _run("sparsify nothing --data text.txt", 2).stderr.splitlines()[-1]
    assert line.startswith("error: no directory or file 'nothing'")
    assert "give --data" in _run("sparsify dense", 2).stderr


def test_a_recipe_of_weights_alone_is_given_no_data(directory: Path) -> None:
    out = _run("sparsify dense --recipe magnitude --sparsity 0.25").stdout
    assert "14 weights of the blocks" in out and "--train-file train.txt" in out


def test_a_language_model_is_made_smaller(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "thin.yaml").write_text("structure: [neuron]\ncriterion: fluctuation\nallocation: uniform\n")
    data = "--data text.txt --length 16 --count 4"
    command = f"shrink dense {data} --recipe thin.yaml --output out --shelf ."
    put = Smaller.put_

    def stopped(self: Smaller, at: At, tensors: Any) -> None:
        if at.position:
            raise KeyboardInterrupt
        put(self, at, tensors)

    with monkeypatch.context() as patched:
        patched.setattr(Smaller, "put_", stopped)
        assert "run the same command again" in _run(command, 130).stderr
    out = " ".join(_run(command).stdout.split())
    assert "intermediate_size: " in out and "1 blocks were written before" in out and "secateurs measure out" in out
    found = json.loads(_run(f"shrink dense --sparsity 0.5 {data} --json").stdout)
    assert found["written"]["directory"] == "dense-smaller" and len(found["written"]["gone"]) == 1
    assert found["written"]["config"] == {"num_hidden_layers": [2, 1]} and found["files"] > 0
    assert "takes more from some" in _run("shrink dense --recipe flap --data text.txt", 2).stderr
