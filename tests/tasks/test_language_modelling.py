"""Windows, labels and perplexity are what the protocol says, counted by hand."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from secateurs.prune import prune
from secateurs.recipe import Recipe
from secateurs.tasks.check import check_task
from secateurs.tasks.language_modelling import LanguageData, language_modelling, loss, predict
from secateurs.types import SecateursError
from tasks.conftest import letter_tokenizer, tiny_llama


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return tiny_llama()


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(2, 32, (200,), generator=torch.Generator().manual_seed(0))


def by_hand(model: nn.Module, windows: list[torch.Tensor], skipped: int = 0) -> tuple[float, int]:
    """Perplexity of windows of which the first ``skipped`` tokens do not count, but for the first window."""
    total, n = 0.0, 0
    for i, ids in enumerate(windows):
        with torch.no_grad():
            log_p = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        for t in range(max(1, skipped if i else 0), len(ids)):
            total -= float(log_p[t - 1, ids[t]])
            n += 1
    return math.exp(total / n), n


def test_perplexity_is_over_windows_apart(model: nn.Module, tokens: torch.Tensor) -> None:
    task = language_modelling(model, None, LanguageData(tokens, tokens, tokens, length=16, count=3, windows=5))
    wanted, n = by_hand(model, [tokens[16 * i : 16 * i + 16] for i in range(5)])
    reading = task.quality(model, task)
    assert reading.value == pytest.approx(wanted, rel=1e-5)
    assert reading.samples == n == 5 * 15
    assert reading.note == "5 windows of 16 tokens, apart from each other, no BOS token"
    assert task.manifest["examples"] == {"train": 3, "select": 5, "final": 5}
    check_task(model, task)


def test_a_stride_keeps_context_and_counts_each_token_once(model: nn.Module, tokens: torch.Tensor) -> None:
    data = LanguageData(tokens, tokens, tokens, length=16, stride=4, windows=6, batch_size=4)
    task = language_modelling(model, None, data)
    wanted, n = by_hand(model, [tokens[4 * i : 4 * i + 16] for i in range(6)], skipped=12)
    reading = task.quality(model, task)
    assert reading.value == pytest.approx(wanted, rel=1e-5)
    assert reading.samples == n == 15 + 5 * 4
    counted = [t for batch in task.splits["final"] for t in batch["labels"][:, 1:].flatten().tolist() if t != -100]
    assert counted == tokens[1 : 16 + 5 * 4].tolist()
    assert "every 4 tokens" in str(reading.note)


def test_the_forward_of_the_library_gives_the_same_loss(model: nn.Module, tokens: torch.Tensor) -> None:
    task = language_modelling(model, None, LanguageData(tokens, tokens, length=16, stride=8, batch_size=3))
    batch = list(task.splits["final"])[1]
    with torch.no_grad():
        assert loss(model, batch).item() == pytest.approx(model(**batch).loss.item(), rel=1e-5)
    outputs, targets = predict(model, batch)
    assert outputs.shape == (*targets.shape, 32)


def test_without_other_text_its_last_fifth_is_set_aside(model: nn.Module, tokens: torch.Tensor) -> None:
    task = language_modelling(model, None, LanguageData(tokens, length=10, count=4))
    seen = {name: torch.cat([b["input_ids"] for b in batches]) for name, batches in task.splits.items()}
    assert seen["train"][-1].tolist() == tokens[150:160].tolist()
    assert torch.equal(seen["final"], tokens[160:].reshape(4, 10)[::2])
    assert torch.equal(seen["select"], tokens[160:].reshape(4, 10)[1::2])


def test_a_first_token_begins_every_sequence(model: nn.Module) -> None:
    text = ["a stone does not sing, a bird does. " * 4]
    task = language_modelling(model, letter_tokenizer(), LanguageData(text, text, length=12, count=3, bos=True))
    for batches in task.splits.values():
        for batch in batches:
            assert batch["input_ids"].shape == (1, 12) and int(batch["input_ids"][0, 0]) == 1
    assert task.quality(model, task).note == "windows of 12 tokens, apart from each other, each after a BOS token"
    with pytest.raises(SecateursError, match="no first token"):
        language_modelling(model, None, LanguageData(torch.ones(50).long(), length=8, bos=True))


def test_an_encoder_decoder_reads_one_half_and_says_the_other(tokens: torch.Tensor) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    settings = {"vocab_size": 32, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    model = T5ForConditionalGeneration(T5Config(**settings, decoder_start_token_id=0, dropout_rate=0.0)).eval()
    task = language_modelling(model, None, LanguageData(tokens, tokens, length=16, count=2, batch_size=2))
    batch = next(iter(task.splits["final"]))
    assert batch["input_ids"][0].tolist() == tokens[:8].tolist()
    assert batch["labels"][0].tolist() == tokens[8:16].tolist()
    with torch.no_grad():
        wanted = F.cross_entropy(model(**batch).logits.flatten(0, 1), batch["labels"].flatten())
    assert loss(model, batch).item() == pytest.approx(wanted.item(), rel=1e-5)
    check_task(model, task)


def test_too_little_for_a_hessian_is_said(
    model: nn.Module, tokens: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "secateurs"):
        language_modelling(model, None, LanguageData(tokens, length=8, count=4))
        assert not caplog.records
        language_modelling(model, None, LanguageData(tokens, length=8, count=2))
    assert "16 calibration tokens are fewer than the 24 inputs" in caplog.text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"length": 1}, "length must be at least 2"),
        ({"length": 8, "stride": 9}, "stride 9 leaves tokens out"),
        ({"starts": "odd"}, "starts must be"),
        ({"length": 300}, "length 300 is more than the 64 positions that the model knows; give a length of at most 64"),
        ({"train": torch.arange(30), "length": 40}, "the text is 24 tokens long, shorter than one sequence of 40"),
        ({"length": 30}, "cannot be halved"),
        ({"length": 8, "windows": 9}, "gives 5 windows, not 9"),
        ({"train": torch.full((50,), 32), "length": 8}, "token 32 of the train text is outside"),
    ],
)
def test_what_cannot_be_used(model: nn.Module, tokens: torch.Tensor, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(SecateursError, match=said):
        language_modelling(model, None, LanguageData(**{"train": tokens, **changed}))


def test_no_language_model() -> None:
    with pytest.raises(SecateursError, match="Linear is no transformers language model"):
        language_modelling(nn.Linear(2, 2), None, LanguageData(torch.ones(90).long(), length=8))


def test_a_model_is_pruned_on_it(model: nn.Module, tokens: torch.Tensor) -> None:
    task = language_modelling(model, None, LanguageData(tokens, length=16, count=6, batch_size=2))
    recipe = Recipe.from_yaml("structure: {weight: {per: row}}\ncriterion: wanda\nallocation: uniform\n")
    pruned = prune(model, task, recipe, 0.5)
    zeros = {name: float((p == 0).float().mean()) for name, p in pruned.model.named_parameters()}
    assert zeros["model.layers.1.mlp.down_proj.weight"] == 0.5
    assert math.isfinite(task.quality(pruned.model, task).value)
