"""Tensors of safetensors files one by one; broken files told by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from secateurs.checkpoint.shards import DTYPES, Shards
from secateurs.types import SecateursError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    places = {}
    for number in range(2):
        file = f"model-{number}.safetensors"
        save_file(
            {f"a{number}": torch.arange(6.0).reshape(2, 3) + number, f"b{number}": torch.ones(4)}, tmp_path / file
        )
        places |= {f"a{number}": file, f"b{number}": file}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return tmp_path


@pytest.mark.parametrize("word", DTYPES)
def test_every_type_is_read_as_it_was_written(tmp_path: Path, word: str) -> None:
    tensor = torch.tensor([[0, 1, 3], [5, 7, 1]]).to(DTYPES[word])
    save_file({"x": tensor, "none": tensor[:0], "one": tensor[0, 1].clone()}, tmp_path / "t.safetensors")
    shards = Shards.of([tmp_path / "t.safetensors"])
    assert shards.dtype("x") == DTYPES[word]
    assert torch.equal(shards.read("x"), tensor)
    assert shards.read("none").shape == (0, 3)
    assert shards.read("one").shape == ()


def test_shards_are_read_by_their_index(directory: Path) -> None:
    shards = Shards.beside(directory)
    assert set(shards.tensors) == {"a0", "b0", "a1", "b1"}
    assert torch.equal(shards.read("a1"), torch.arange(6.0).reshape(2, 3) + 1)
    assert [file.name for file in shards.files] == ["model-0.safetensors", "model-1.safetensors"]


def test_a_digest_tells_one_changed_weight(directory: Path) -> None:
    before = Shards.beside(directory).digest()
    assert Shards.beside(directory).digest() == before
    save_file({"a1": torch.arange(6.0).reshape(2, 3), "b1": torch.ones(4)}, directory / "model-1.safetensors")
    assert Shards.beside(directory).digest() != before


def test_a_shard_cut_short_is_told_with_its_tensor(directory: Path) -> None:
    file = directory / "model-1.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(SecateursError, match=r"model-1\.safetensors is cut short: tensor \w1 ends at byte"):
        Shards.beside(directory)


def test_a_file_cut_after_its_header_was_read_is_told(directory: Path) -> None:
    shards = Shards.beside(directory)
    file = directory / "model-1.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(SecateursError, match=r"model-1\.safetensors is cut short: tensor b1 is not whole"):
        shards.read("b1")


@pytest.mark.parametrize(
    "content", [b"", b"\x10", b"\xff" * 9, b"\x02" + b"\0" * 7 + b"[]", b"\x40" + b"\0" * 7 + b"{"]
)
def test_a_file_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(SecateursError, match=r"model\.safetensors is no safetensors file, or its header is cut short"):
        Shards.beside(tmp_path)


def test_a_missing_shard_is_told_with_a_tensor_of_it(directory: Path) -> None:
    (directory / "model-0.safetensors").unlink()
    with pytest.raises(SecateursError, match=r"model-0\.safetensors is missing: by model.* it holds a0"):
        Shards.beside(directory)


def test_an_index_that_names_what_is_not_there_is_told(directory: Path) -> None:
    save_file({"a1": torch.ones(1)}, directory / "model-1.safetensors")
    with pytest.raises(SecateursError, match=r"model-1\.safetensors has no tensor b1"):
        Shards.beside(directory)


def test_a_broken_index_is_told(directory: Path) -> None:
    (directory / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(SecateursError, match="is no index of tensors"):
        Shards.beside(directory)


def test_a_type_with_scales_beside_it_is_told(tmp_path: Path) -> None:
    save_file({"x": torch.ones(4).to(torch.float8_e4m3fn)}, tmp_path / "model.safetensors")
    with pytest.raises(SecateursError, match="tensor x is F8_E4M3, which is not read"):
        Shards.beside(tmp_path).read("x")
