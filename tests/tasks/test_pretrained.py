from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from secateurs.tasks.pretrained import is_language_model, load_classifier, load_language_model, positions
from secateurs.types import SecateursError
from tasks.conftest import tiny_llama


def test_loads_in_evaluation_mode_and_silently(classifier_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = load_classifier(str(classifier_dir))
    assert not model.training
    assert model(**tokenizer("a fine film", return_tensors="pt")).logits.shape == (1, 2)
    assert capfd.readouterr() == ("", "")


def test_a_new_head_for_another_number_of_classes(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nfilm")
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    encoder = BertModel(BertConfig(vocab_size=6, **small))
    encoder.save_pretrained(tmp_path)
    model, _ = load_classifier(str(tmp_path), num_labels=3, labels=("a", "b", "c"))
    assert isinstance(model.classifier, nn.Linear)
    assert model.classifier.out_features == model.config.num_labels == 3
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert torch.equal(model.bert.pooler.dense.weight, encoder.pooler.dense.weight)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty", "empty is no model: it has no config.json"),
        ("file.txt", "file.txt is a file; give the directory"),
        ("no-weights", "no-weights holds no sequence classifier that can be loaded: "),
        ("truncated", "truncated holds no sequence classifier that can be loaded: "),
    ],
)
def test_what_is_no_model_is_said_in_one_line(name: str, said: str, classifier_dir: Path, tmp_path: Path) -> None:
    for place in ("empty", "no-weights", "truncated"):
        (tmp_path / place).mkdir()
    (tmp_path / "file.txt").touch()
    for place in ("no-weights", "truncated"):
        for file in classifier_dir.iterdir():
            if place == "truncated" or file.suffix != ".safetensors":
                (tmp_path / place / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "truncated" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(SecateursError, match=said) as caught:
        load_classifier(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_hub_name_without_a_network() -> None:
    with pytest.raises(SecateursError, match=r"^no directory 'nobody/nothing', and it cannot be had from the hub"):
        load_classifier("nobody/nothing")


def test_a_language_model_and_its_tokenizer(language_model_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = load_language_model(str(language_model_dir))
    assert not model.training
    assert model(**tokenizer("a film", return_tensors="pt")).logits.shape == (1, 6, 32)
    assert is_language_model(str(language_model_dir))
    assert capfd.readouterr() == ("", "")


def test_a_directory_without_a_tokenizer(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path)
    assert load_language_model(str(tmp_path))[1] is None


def test_an_encoder_decoder_is_loaded_as_one(tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    settings = {"vocab_size": 32, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    T5ForConditionalGeneration(T5Config(**settings, decoder_start_token_id=0)).save_pretrained(tmp_path)
    assert type(load_language_model(str(tmp_path))[0]) is T5ForConditionalGeneration
    assert is_language_model(str(tmp_path))


def test_what_is_no_language_model(classifier_dir: Path, tmp_path: Path) -> None:
    assert not is_language_model(str(classifier_dir))
    assert not is_language_model(str(tmp_path))
    with pytest.raises(SecateursError, match="is no language model: it has no 'cls"):
        load_language_model(str(classifier_dir))
    with pytest.raises(SecateursError, match=r"is no model: it has no config\.json"):
        load_language_model(str(tmp_path))
    with pytest.raises(SecateursError, match=r"no file .*none\.gguf"):
        load_language_model(str(tmp_path / "none.gguf"))
    with pytest.raises(SecateursError, match=r"has no file b\.gguf"):
        load_language_model(str(tmp_path), "b.gguf")
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    assert is_language_model(str(tmp_path))
    with pytest.raises(SecateursError, match=r"several GGUF files: a\.gguf, b\.gguf"):
        load_language_model(str(tmp_path))
    with pytest.raises(SecateursError, match="holds no language model that can be loaded") as caught:
        load_language_model(str(tmp_path / "a.gguf"))
    assert "\n" not in str(caught.value)


def test_positions_of_which_any_number_will_do() -> None:
    from transformers import GPT2Config, T5Config, XLNetConfig

    assert positions(GPT2Config(n_positions=48)) == 48
    assert positions(XLNetConfig()) is positions(T5Config()) is positions(None) is None
