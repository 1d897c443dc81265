"""A tiny BERT with its tokenizer on disk, and tables of labelled sentences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

GOOD, BAD = ("fine", "lovely", "bright", "warm"), ("dull", "grim", "stale", "cold")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "very", "it", "is", "and", *GOOD, *BAD)


def sentences(n: int, offset: int = 0) -> dict[str, list[Any]]:
    """``n`` different sentences of different lengths; half of them in each class."""
    rows: dict[str, list[Any]] = {"sentence": [], "label": []}
    for i in range(offset, offset + n):
        label = i % 2
        word = (GOOD if label else BAD)[i // 2 % 4]
        number = " ".join(("and", "it", "is")[i // 3**digit % 3] for digit in range(5))
        rows["sentence"].append(f"a {'very ' * (i % 5)}{word} film {number}")
        rows["label"].append(label)
    return rows


@pytest.fixture(scope="session")
def classifier_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    directory = tmp_path_factory.mktemp("classifier")
    (directory / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(directory / "vocab.txt")).save_pretrained(directory)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=2,
        id2label={0: "bad", 1: "good"},
        label2id={"bad": 0, "good": 1},
    )
    BertForSequenceClassification(config).save_pretrained(directory)
    return directory


@pytest.fixture
def classifier(classifier_dir: Path) -> tuple[nn.Module, Any]:
    from secateurs.tasks.pretrained import load_classifier

    return load_classifier(str(classifier_dir))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, dict[str, list[Any]]], str]:
    """Write a table and return its path."""
    import pandas as pd

    def table(name: str, rows: dict[str, list[Any]]) -> str:
        path, frame = tmp_path / name, pd.DataFrame(rows)
        if path.suffix == ".parquet":
            frame.to_parquet(path)
        elif path.suffix in (".csv", ".tsv"):
            frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
        else:
            frame.to_json(path, orient="records", lines=True)
        return str(path)

    return table


LETTERS = "abcdefghijklmnopqrstuvwxyz .,\n"


def letter_tokenizer() -> Any:
    """One token per character; 0 is what it does not know, 1 begins and ends a text."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<unk>", "<s>", *LETTERS])}
    made = Tokenizer(WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = Split(Regex("[\\s\\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="<s>")


def tiny_llama(**changed: Any) -> nn.Module:
    """Two blocks, 32 tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": 32,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
        "bos_token_id": 1,
        "eos_token_id": None,
        **changed,
    }
    return LlamaForCausalLM(LlamaConfig(**settings)).eval()


@pytest.fixture(scope="session")
def language_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("language_model")
    tiny_llama().save_pretrained(directory)
    letter_tokenizer().save_pretrained(directory)
    return directory
