"""Rows of short columns become the rows of the harness's own data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secateurs.tasks.zero_shot_data import sets
from secateurs.types import SecateursError

Write = Callable[[str, dict[str, list[Any]]], str]


def test_a_question_with_choices(write: Write, tmp_path: Path) -> None:
    row = {"query": ["why _ not?", "x _"], "choices": [["a", "b"], ["c", "d"]], "label": [1, 0]}
    for name in ("piqa", "arc_easy", "winogrande"):
        write(f"{name}.jsonl", row)
    assert sets()["piqa"].rows(tmp_path)[0] == {"goal": "why _ not?", "sol1": "a", "sol2": "b", "label": 1}
    assert sets()["arc_easy"].rows(tmp_path)[0] == {
        "question": "why _ not?",
        "choices": {"text": ["a", "b"], "label": ["A", "B"]},
        "answerKey": "B",
    }
    assert sets()["winogrande"].rows(tmp_path)[1] == {
        "sentence": "x _",
        "option1": "c",
        "option2": "d",
        "answer": "1",
    }


@pytest.mark.parametrize(
    ("context", "whole", "unfinished"),
    [
        ("A man sits. he", "A man sits.", "he"),
        ("A man sits. a dog! then the dog", "A man sits. a dog!", "then the dog"),
        ("Select your starch. Then boil it.", "Select your starch. Then boil it.", ""),
        ("It costs 3 dollars. see here.", "It costs 3 dollars. see here.", ""),
        ("A man", "A man", ""),
    ],
)
def test_the_unfinished_sentence_of_hellaswag(
    context: str, whole: str, unfinished: str, write: Write, tmp_path: Path
) -> None:
    write("hellaswag.jsonl", {"ctx": [f"Roof: {context}"], "endings": [["a", "b"]], "label": [1]})
    (row,) = sets()["hellaswag"].rows(tmp_path)
    assert (row["activity_label"], row["ctx_a"], row["ctx_b"]) == ("Roof", whole, unfinished)


def test_open_questions_and_stories(write: Write, tmp_path: Path) -> None:
    asked = {"question": ["who"], "answers": [["a", "b"]]}
    for name in ("nq_open", "webqs", "triviaqa"):
        write(f"{name}.jsonl", asked)
    assert sets()["nq_open"].rows(tmp_path) == [{"question": "who", "answer": ["a", "b"]}]
    assert sets()["webqs"].rows(tmp_path) == [{"question": "who", "answers": ["a", "b"]}]
    assert sets()["triviaqa"].rows(tmp_path) == [{"question": "who", "answer": {"aliases": ["a", "b"]}}]
    story = {f"InputSentence{i}": [f"s{i}"] for i in range(1, 5)}
    write(
        "storycloze.csv",
        {**story, "RandomFifthSentenceQuiz1": ["x"], "RandomFifthSentenceQuiz2": ["y"], "AnswerRightEnding": [2]},
    )
    (row,) = sets()["storycloze_2016"].rows(tmp_path)
    assert row["input_sentence_4"] == "s4" and row["sentence_quiz2"] == "y" and row["answer_right_ending"] == 2


def test_the_columns_of_the_harness_are_passed_on(write: Write, tmp_path: Path) -> None:
    rows = {"sentence": ["a _"], "option1": ["x"], "option2": ["y"], "answer": ["2"], "more": [1]}
    write("winogrande.jsonl", rows)
    assert sets()["winogrande"].rows(tmp_path)[0]["more"] == 1


def test_plain_lines_are_passages(tmp_path: Path) -> None:
    (tmp_path / "lambada_standard.txt").write_text("a b c\nd e\n")
    assert sets()["lambada_standard"].rows(tmp_path) == [{"text": "a b c"}, {"text": "d e"}]


def test_what_does_not_fit_is_said(write: Write, tmp_path: Path) -> None:
    with pytest.raises(SecateursError, match=r"holds no hellaswag/validation\.parquet"):
        sets()["hellaswag"].rows(tmp_path)
    write("piqa.csv", {"question": ["x"], "label": [0]})
    with pytest.raises(SecateursError, match=r"does not fit piqa .*it has: question, label; give: goal, sol1, sol2"):
        sets()["piqa"].rows(tmp_path)
