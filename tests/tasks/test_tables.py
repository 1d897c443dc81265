from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secateurs.tasks.tables import describe, read_columns
from secateurs.types import SecateursError

Write = Callable[[str, dict[str, list[Any]]], str]
ROWS: dict[str, list[Any]] = {"id": [7, 8, 9], "sentence": ["one", 'two, "2"', "three"], "label": [0, 1, 0]}


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl", "json"])
def test_reads_every_format_in_the_order_asked(suffix: str, write: Write) -> None:
    path = write(f"t.{suffix}", ROWS)
    assert read_columns(path, ["label", "sentence"]) == [ROWS["label"], ROWS["sentence"]]


def test_reads_tab_separated_quotes_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text('sentence\tlabel\na "quoted\t1\nplain\t0\n')
    assert read_columns(str(path), ["sentence", "label"]) == [['a "quoted', "plain"], [1, 0]]


def test_missing_column_names_the_near_one_and_all(write: Write) -> None:
    path = write("t.csv", ROWS)
    with pytest.raises(
        SecateursError, match=r"no column 'sentense'; did you mean 'sentence'\? it has: id, sentence, label"
    ):
        read_columns(path, ["sentense"])


def test_missing_file() -> None:
    with pytest.raises(SecateursError, match=r"^no such file: nowhere/train.parquet; give the path of a"):
        read_columns("nowhere/train.parquet", ["sentence"])


def test_no_table(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    path.write_bytes(b"x")
    with pytest.raises(SecateursError, match=r"t\.xlsx is not a table that can be read; use one of: \.parquet, \.csv"):
        read_columns(str(path), ["sentence"])


def test_truncated_file(write: Write) -> None:
    path = Path(write("t.parquet", ROWS))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SecateursError, match=r"^cannot read .*t\.parquet: ") as caught:
        read_columns(str(path), ["sentence"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_no_rows(suffix: str, write: Write) -> None:
    with pytest.raises(SecateursError, match=rf"t\.{suffix} has no rows"):
        read_columns(write(f"t.{suffix}", {"sentence": [], "label": []}), ["sentence"])


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_no_bytes(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{suffix}"
    path.touch()
    with pytest.raises(SecateursError, match=rf"t\.{suffix} has no rows"):
        read_columns(str(path), ["sentence"])


def test_words_that_look_like_missing_values_are_words(write: Write) -> None:
    path = write("t.csv", {"sentence": ["null", "NA", "none"], "label": [0, 1, 0]})
    assert read_columns(path, ["sentence", "label"]) == [["null", "NA", "none"], [0, 1, 0]]


def test_empty_cell(write: Write) -> None:
    with pytest.raises(SecateursError, match=r"row 2 has nothing in column 'sentence'"):
        read_columns(write("t.parquet", {"sentence": ["a", None], "label": [0, 1]}), ["label", "sentence"])


def test_glue_without_a_network_says_what_to_do() -> None:
    with pytest.raises(
        SecateursError, match=r"^cannot get glue/nosuch from the hub .*--train-file and --evaluation-file"
    ):
        read_columns("glue/nosuch:train", ["sentence"])


def test_a_file_is_described_by_its_content(write: Write) -> None:
    path = Path(write("t.csv", ROWS))
    found = describe(str(path))
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["bytes"] == path.stat().st_size
    assert describe("glue/sst2:train") == {"source": "glue/sst2:train"}
