"""Token ids come out the same whatever form the text was given in; what is no text is said in one line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from secateurs.tasks.tokens import described, read_tokens
from secateurs.types import SecateursError
from tasks.conftest import letter_tokenizer

TEXTS = ["a bird sings,", "a stone does not."]
JOINED = "\n\n".join(TEXTS)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return letter_tokenizer()


def test_a_text_is_the_same_in_every_form(
    tokenizer: Any, tmp_path: Path, write: Callable[[str, dict[str, list[Any]]], str]
) -> None:
    plain = tmp_path / "plain.tokens"
    plain.write_text(JOINED)
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(JOINED.encode()))
    lines = write("lines.jsonl", {"text": TEXTS, "other": ["x", "y"]})
    (tmp_path / "lines.jsonl.gz").write_bytes(gzip.compress(Path(lines).read_bytes()))
    table = write("table.parquet", {"words": TEXTS})
    wanted = read_tokens(TEXTS, tokenizer)
    assert tokenizer.decode(wanted).replace(" ", "") == JOINED.replace(" ", "")
    assert wanted.dtype == torch.int64
    for source in (plain, tmp_path / "packed.txt.gz", lines, tmp_path / "lines.jsonl.gz"):
        assert torch.equal(read_tokens(source, tokenizer), wanted), source
    assert torch.equal(read_tokens(table, tokenizer, column="words"), wanted)


@pytest.mark.parametrize("shape", [(12,), (3, 4)])
def test_ids_need_no_tokenizer(shape: tuple[int, ...], tmp_path: Path) -> None:
    ids = torch.arange(12).reshape(shape)
    torch.save(ids, tmp_path / "a.pt")
    torch.save({"input_ids": ids, "attention_mask": torch.ones(shape)}, tmp_path / "b.pt")
    save_file({"anything": ids.int()}, tmp_path / "c.safetensors")
    np.save(tmp_path / "d.npy", ids.numpy().astype(np.uint16))
    for source in (ids, *(tmp_path / name for name in ("a.pt", "b.pt", "c.safetensors", "d.npy"))):
        assert torch.equal(read_tokens(source), ids), source


def test_what_cannot_be_read_is_said_in_one_line(tokenizer: Any, tmp_path: Path) -> None:
    def write(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    torch.save({"x": torch.ones(1), "y": torch.ones(1)}, tmp_path / "two.pt")
    torch.save({f"layer.{i}": torch.ones(1) for i in range(9)}, tmp_path / "many.pt")
    torch.save(torch.ones(3), tmp_path / "floats.pt")
    np.save(tmp_path / "floats.npy", np.ones(3))
    for source, said in (
        (tmp_path / "none.txt", "no such file"),
        (write("blank.txt", b" \n"), "holds no text"),
        (write("latin.txt", b"caf\xe9"), "no text in UTF-8"),
        (write("torn.txt.gz", gzip.compress(b"abc" * 99)[:-9]), "cannot read"),
        (write("torn.jsonl.gz", b"no gzip"), "cannot read"),
        (write("torn.pt", b"no tensor"), "cannot read token ids"),
        (tmp_path / "many.pt", r"holds layer\.0, layer\.1, layer\.2 and 6 more; name"),
        (tmp_path / "two.pt", "name the token ids 'input_ids'"),
        (tmp_path / "floats.pt", r"must be integers.*got torch\.float32 \(3,\)"),
        (tmp_path / "floats.npy", "cannot read token ids"),
        (torch.tensor([3, -1]), "token id -1"),
    ):
        with pytest.raises(SecateursError, match=said) as caught:
            read_tokens(source, tokenizer)
        assert "\n" not in str(caught.value)
    with pytest.raises(SecateursError, match="the model has no tokenizer"):
        read_tokens(["a"])
    with pytest.raises(SecateursError, match="has no column 'text'"):
        read_tokens(write("t.csv", b"words\nhello\n"), tokenizer)


def test_what_is_written_down(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc")
    assert described(tmp_path / "a.txt")["bytes"] == 3
    assert described(torch.ones(2, 3)) == {"source": "token ids", "shape": [2, 3]}
    assert described(["a", "b"]) == {"source": "texts", "texts": 2}
