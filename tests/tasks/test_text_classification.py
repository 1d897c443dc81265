from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from secateurs.measures.matthews import Matthews
from secateurs.tasks.text_classification import TextData, glue, loss, predict, text_classification
from secateurs.types import SecateursError, Task

from .conftest import sentences

Write = Callable[[str, dict[str, list[Any]]], str]
Classifier = tuple[nn.Module, Any]


@pytest.fixture
def data(write: Write) -> TextData:
    return TextData(write("train.parquet", sentences(60)), write("dev.csv", sentences(21, offset=60)), batch_size=8)


def texts(task: Task, split: str) -> set[tuple[int, ...]]:
    """Token ids of every example of a split, without padding."""
    found = set()
    for batch in task.splits[split]:
        for ids, seen in zip(batch["inputs"]["input_ids"], batch["inputs"]["attention_mask"], strict=True):
            found.add(tuple(ids[seen.bool()].tolist()))
    return found


def test_evaluation_is_halved(classifier: Classifier, data: TextData) -> None:
    task = text_classification(*classifier, data)
    assert task.manifest["examples"] == {"train": 60, "select": 10, "final": 11}
    parts = [texts(task, split) for split in ("train", "select", "final")]
    assert [len(part) for part in parts] == [60, 10, 11]
    assert not parts[1] & parts[2]
    assert not parts[0] & (parts[1] | parts[2])


def test_select_may_be_carved_from_train(classifier: Classifier, data: TextData) -> None:
    task = text_classification(*classifier, replace(data, select_from="train", select_size=20))
    assert task.manifest["examples"] == {"train": 40, "select": 20, "final": 21}
    assert not texts(task, "train") & texts(task, "select")
    again = text_classification(*classifier, replace(data, select_from="train", select_size=20))
    assert texts(again, "select") == texts(task, "select")


def test_predict_and_loss_agree_with_the_model_alone(classifier: Classifier, data: TextData) -> None:
    model, tokenizer = classifier
    task = text_classification(model, tokenizer, data)
    first = next(iter(task.splits["final"]))
    scores, labels = task.predict(model, first)
    one = first["inputs"]["input_ids"][0][first["inputs"]["attention_mask"][0].bool()]
    torch.testing.assert_close(scores[0], model(input_ids=one[None]).logits[0])
    assert scores.shape == (8, 2)
    assert labels.dtype == torch.int64
    torch.testing.assert_close(loss(model, first), model(**first["inputs"], labels=labels).loss)
    assert predict is task.predict


def test_batches_are_padded_to_their_own_longest(classifier: Classifier, data: TextData) -> None:
    task = text_classification(*classifier, data)
    for split in ("train", "final"):
        for batch in task.splits[split]:
            assert batch["inputs"]["attention_mask"].any(0).all()


def test_example_inputs_are_of_middle_length_and_run(classifier: Classifier, data: TextData) -> None:
    model, tokenizer = classifier
    one = text_classification(model, tokenizer, data).example_inputs
    four = text_classification(model, tokenizer, replace(data, examples=4)).example_inputs
    assert isinstance(one, dict)
    assert isinstance(four, dict)
    assert model(**one).logits.shape == (1, 2)
    assert model(**four).logits.shape == (4, 2)


def test_texts_are_cut(classifier: Classifier, data: TextData) -> None:
    task = text_classification(*classifier, replace(data, max_length=6))
    assert max(len(t) for t in texts(task, "train")) == 6
    long = text_classification(*classifier, replace(data, max_length=1000))
    assert max(len(t) for t in texts(long, "final")) <= 64


def test_pairs_are_joined_by_the_tokenizer(classifier: Classifier, write: Write) -> None:
    rows = sentences(10)
    path = write("pairs.jsonl", rows | {"other": ["it is dull"] * 10})
    task = text_classification(*classifier, TextData(path, path, text=("sentence", "other")))
    assert next(iter(task.splits["final"]))["inputs"]["token_type_ids"].any()


def test_names_of_labels_are_mapped(classifier: Classifier, write: Write) -> None:
    rows = sentences(10)
    rows["label"] = [("bad", "good")[label] for label in rows["label"]]
    path = write("named.csv", rows)
    task = text_classification(*classifier, TextData(path, path))
    assert {int(i) for batch in task.splits["train"] for i in batch["labels"]} == {0, 1}
    rows["label"][3] = "so-so"
    path = write("odd.csv", rows)
    with pytest.raises(
        SecateursError, match=r"row 4: label 'so-so' is no label of the model's config; it has: bad, good"
    ):
        text_classification(*classifier, TextData(path, path))


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (2, "row 3: label 2 is outside the model's 2 classes"),
        (-1, "label -1 is outside"),
        (0.5, "label 0.5 is no class"),
    ],
)
def test_labels_outside_the_range(label: float, said: str, classifier: Classifier, write: Write) -> None:
    rows = sentences(10)
    rows["label"][2] = label
    path = write("t.parquet", rows)
    with pytest.raises(SecateursError, match=said):
        text_classification(*classifier, TextData(path, path))


def test_bad_input(classifier: Classifier, data: TextData, write: Write) -> None:
    with pytest.raises(SecateursError, match=r"Linear is no transformers classifier"):
        text_classification(nn.Linear(1, 1), None, data)
    with pytest.raises(SecateursError, match="has one row: it cannot be halved"):
        text_classification(*classifier, replace(data, evaluation=write("one.csv", sentences(1))))
    with pytest.raises(SecateursError, match="select_size 60 takes all of"):
        text_classification(*classifier, replace(data, select_from="train", select_size=60))


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"metric": "bleu"}, "no metric 'bleu' .* use one of: accuracy, f1, matthews"),
        ({"select_from": "final"}, "select_from must be 'evaluation' or 'train', got 'final'"),
        ({"text": ()}, "one or two columns, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_fields_are_checked(field: dict[str, Any], said: str) -> None:
    with pytest.raises(SecateursError, match=said):
        TextData("a.csv", "b.csv", **field)


def test_glue_knows_columns_and_metric() -> None:
    cola = glue("glue/cola", train="t.csv", evaluation=None, max_length=64)
    assert cola == TextData("t.csv", "glue/cola:validation", metric="matthews", max_length=64)
    assert glue("glue/qnli").text == ("question", "sentence")
    with pytest.raises(SecateursError, match="no GLUE task 'glue/sst'; use one of: glue/sst2"):
        glue("glue/sst")


def test_quality_follows_the_metric(classifier: Classifier, data: TextData) -> None:
    task = text_classification(*classifier, replace(data, metric="matthews"))
    assert isinstance(task.quality, Matthews)
    assert -1 <= task.quality(classifier[0], task).value <= 1
