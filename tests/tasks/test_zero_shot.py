"""The harness's figures on rows of our own, counted by hand where that is easy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from secateurs.job.evaluating import evaluate_named
from secateurs.tasks.pretrained import load_language_model
from secateurs.tasks.zero_shot import ZeroShot, spaced
from secateurs.types import SecateursError

Write = Callable[[str, dict[str, list[Any]]], str]
TEXTS = ["a bird does not sing at night", "the stone is cold and wet today", "he went home by the old road"]


@pytest.fixture
def folder(write: Write, tmp_path: Path) -> Path:
    write("lambada.jsonl", {"text": TEXTS})
    write("piqa.jsonl", {"query": ["to sing"] * 4, "choices": [["a b", "c d"]] * 4, "label": [0, 1, 0, 1]})
    write("webqs.jsonl", {"question": ["who"] * 2, "answers": [["a", "b"]] * 2})
    return tmp_path


def test_rows_are_spaced_evenly() -> None:
    rows = [{"i": i} for i in range(10)]
    assert [row["i"] for row in spaced(rows, 4)] == [0, 2, 5, 7]
    assert spaced(rows, None) is rows and spaced(rows, 10) is rows


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tasks": ()}, "no task to evaluate on"),
        ({"tasks": ("lambda",)}, "no task 'lambda' to evaluate on; give some of: lambada"),
        ({"tasks": ("hellaswag",)}, "holds no hellaswag/validation"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"few_shot": -1}, "few_shot must be at least 0"),
    ],
)
def test_what_cannot_be_asked_is_said_first(changed: dict[str, Any], said: str, folder: Path) -> None:
    with pytest.raises(SecateursError, match=said):
        ZeroShot(**{"tasks": ("lambada",), "data": folder, **changed})


def test_a_network_that_is_no_language_model(folder: Path) -> None:
    pytest.importorskip("lm_eval")
    with pytest.raises(SecateursError, match="Linear cannot be asked"):
        ZeroShot(("lambada",), folder)(torch.nn.Linear(1, 1), None)


def test_without_the_harness(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", None)
    with pytest.raises(SecateursError, match="secateurs\\[evaluation\\]"):
        ZeroShot(("lambada",), folder)(torch.nn.Linear(1, 1), None)


def test_figures_are_what_the_model_says(
    language_model_dir: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lm_eval")
    model, tokenizer = load_language_model(str(language_model_dir))
    state = torch.get_rng_state()
    found = evaluate_named(str(language_model_dir), ZeroShot(("lambada", "piqa", "webqs"), folder, batch_size=2))
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")
    assert set(found) == {"lambada/perplexity", "lambada/acc", "piqa/acc", "piqa/acc_norm", "webqs/exact_match"}
    total = 0.0
    for text in TEXTS:
        before, _, last = text.rpartition(" ")
        ids = torch.tensor(tokenizer(text)["input_ids"])
        n = len(tokenizer(f" {last}")["input_ids"])
        with torch.no_grad():
            log_p = model(ids[None]).logits[0].log_softmax(-1)
        total -= sum(float(log_p[t - 1, ids[t]]) for t in range(len(ids) - n, len(ids)))
        assert before
    reading = found["lambada/perplexity"]
    assert reading.value == pytest.approx(math.exp(total / 3), rel=1e-3)
    assert reading.spread is not None and reading.spread[0] < reading.value < reading.spread[1]
    assert found["piqa/acc"].value == 0.5 and found["piqa/acc"].samples == 4
    assert "piqa, version 1.0, 0-shot, standard error" in str(found["piqa/acc"].note)


def test_a_part_of_the_examples_and_some_shown(language_model_dir: Path, folder: Path) -> None:
    pytest.importorskip("lm_eval")
    model, tokenizer = load_language_model(str(language_model_dir))
    (reading,) = [
        it for name, it in ZeroShot(("piqa",), folder, 3, few_shot=1)(model, tokenizer).items() if name == "piqa/acc"
    ]
    assert reading.samples == 3
    assert "1-shot, 3 of 4 examples" in str(reading.note)
    assert not model._forward_pre_hooks
