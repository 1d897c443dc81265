from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from secateurs.recoveries.fine_tune import FineTune
from secateurs.recoveries.nothing import Nothing
from secateurs.tasks.finetune import finetune
from secateurs.tasks.pretrained import load_classifier
from secateurs.tasks.text_classification import TextData, text_classification
from secateurs.types import SecateursError, Task

from .conftest import sentences

Classifier = tuple[nn.Module, Any]


@pytest.fixture
def task(classifier: Classifier, write: Callable[..., str]) -> Task:
    data = TextData(write("t.csv", sentences(96)), write("e.csv", sentences(40, offset=96)), batch_size=8)
    return text_classification(*classifier, data)


def test_it_learns_and_what_is_saved_answers_the_same(classifier: Classifier, task: Task, tmp_path: Path) -> None:
    model, tokenizer = classifier
    before = task.quality(model, task).value
    made = finetune(
        model,
        tokenizer,
        task,
        tmp_path / "out" / "dense",
        recovery=FineTune(epochs=8, learning_rate=5e-3, evaluations=1),
    )
    assert set(made.readings) == {"select", "final"}
    assert made.readings["final"].value > max(before, 0.9)
    assert made.seconds > 0
    loaded, its_tokenizer = load_classifier(str(made.directory))
    assert isinstance(task.example_inputs, dict)
    with torch.no_grad():
        assert torch.equal(loaded(**task.example_inputs).logits, model.eval()(**task.example_inputs).logits)
    assert its_tokenizer("a fine film")["input_ids"] == tokenizer("a fine film")["input_ids"]


def test_an_existing_directory_is_refused_before_any_work(classifier: Classifier, task: Task, tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("work was done")

    with pytest.raises(SecateursError, match="exists; name another or remove it"):
        finetune(*classifier, task, tmp_path, recovery=fail)


def test_nothing_is_left_when_writing_fails(
    classifier: Classifier, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = classifier

    def full(directory: Path) -> None:
        (Path(directory) / "half.safetensors").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save_pretrained", full)
    with pytest.raises(SecateursError, match=r"cannot write .*out: No space left on device; nothing was saved"):
        finetune(model, tokenizer, task, tmp_path / "out", recovery=Nothing())
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".csv"] == []


def test_a_place_that_cannot_be_written(classifier: Classifier, task: Task, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SecateursError, match=r"cannot write .*file/out"):
        finetune(*classifier, task, tmp_path / "file" / "out", recovery=Nothing())


def test_same_seed_same_weights(classifier_dir: Path, task: Task, tmp_path: Path) -> None:
    heads = []
    for name in ("a", "b"):
        model, tokenizer = load_classifier(str(classifier_dir))
        finetune(model, tokenizer, task, tmp_path / name, seed=5)
        heads.append(model.classifier.weight.detach())
    assert torch.equal(*heads)
