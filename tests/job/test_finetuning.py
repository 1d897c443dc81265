"""Labels become classes, and a pretrained model becomes a classifier that can be opened again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from secateurs.job.finetuning import finetune_named, labels_of
from secateurs.job.opening import TaskName, open_model, open_task
from secateurs.recoveries.fine_tune import FineTune
from secateurs.types import SecateursError


def test_integers_are_classes_and_words_are_sorted() -> None:
    assert labels_of([0, 2, 1, 2], "x") == (3, None)
    assert labels_of(["no", "yes", "maybe", "no"], "x") == (3, ["maybe", "no", "yes"])


@pytest.mark.parametrize(
    ("column", "line"),
    [([0, -1], "holds -1"), ([0.5, 1], "holds 0.5"), ([0, 0], "one class only"), (["a"], "one class only")],
)
def test_what_is_no_label(column: list[object], line: str) -> None:
    with pytest.raises(SecateursError, match=line):
        labels_of(column, "file: label")


def test_a_language_model_goes_on_learning(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=12, num_hidden_layers=1, hidden_size=8, intermediate_size=8, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    torch.save(torch.arange(12).repeat(20), tmp_path / "ids.pt")
    data = TaskName("language_modelling", {"train": str(tmp_path / "ids.pt"), "length": 12, "count": 16})
    training = FineTune(epochs=3, learning_rate=1e-2)
    done = finetune_named(str(tmp_path / "model"), data, tmp_path / "done", training, device="cpu")
    opened = open_model(str(done.directory))
    assert opened.tokenizer is None
    before = open_model(str(tmp_path / "model"))
    task = open_task(data, opened)
    assert task.quality(opened.model, task).value < 0.8 * task.quality(before.model, task).value


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    config = transformers.BertConfig(
        vocab_size=len(words), num_hidden_layers=1, hidden_size=8, intermediate_size=8, num_attention_heads=2
    )
    where = tmp_path / "pretrained"
    transformers.BertModel(config).save_pretrained(where)
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(where)
    return where


def test_a_pretrained_model_becomes_a_classifier(pretrained: Path, tmp_path: Path) -> None:
    table = tmp_path / "texts.csv"
    table.write_text("text,mood\n" + "good,up\nbad,down\n" * 40)
    task = TaskName("text", {"train": str(table), "evaluation": str(table), "text": ("text",), "label": "mood"})
    done = finetune_named(str(pretrained), task, tmp_path / "out", FineTune(epochs=1, learning_rate=1e-3), device="cpu")
    assert set(done.readings) == {"select", "final"}
    opened = open_model(str(tmp_path / "out"))
    assert open_task(task, opened).name.startswith("text classification")
    with opened.build() as build:
        assert type(build()) is type(opened.model)
    with pytest.raises(SecateursError, match="no device 'abacus'"):
        finetune_named(str(pretrained), task, tmp_path / "elsewhere", device="abacus")
    with pytest.raises(SecateursError, match="exists"):
        finetune_named(str(pretrained), task, tmp_path / "out")
