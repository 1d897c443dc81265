"""Local files of the usual zero-shot sets, in the columns that lm-evaluation-harness reads.

The harness brings the prompts, the normalisation and the metrics; here a row of a file becomes the row that its own
task would have had from the hub. A file that has the harness's columns already is passed on as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from secateurs.tasks.tables import read_rows
from secateurs.types import SecateursError

Row = Mapping[str, Any]
SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".txt", ".txt.gz")


@dataclass(frozen=True)
class Set:
    """One set.

    Args:
        task: What the harness calls its task.
        folder: Of the harness's definitions, where the task's lies.
        stems: Where its file may lie below the directory of the data, without the suffix; the first found is taken.
        columns: What the harness's task reads.
        row: A row in short columns, such as ``query``, ``choices``, ``label``, in the harness's.
    """

    task: str
    folder: str
    stems: tuple[str, ...]
    columns: tuple[str, ...]
    row: Callable[[Row], Row] = dict

    def rows(self, directory: Path) -> list[Row]:
        """The rows of its file.

        Args:
            directory: Where the files lie.

        Raises:
            SecateursError: There is no such file, it cannot be read, or has other columns.
        """
        path = self.file(directory)
        rows = _lines(path) if ".txt" in path.suffixes else read_rows(str(path))
        if all(name in rows[0] for name in self.columns):
            return list(rows)
        try:
            return [self.row(row) for row in rows]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise SecateursError(
                f"{path} does not fit {self.task} ({type(error).__name__}: {error}); it has: {', '.join(rows[0])}; "
                f"give: {', '.join(self.columns)}"
            ) from error

    def file(self, directory: Path) -> Path:
        """Its file.

        Args:
            directory: Where the files lie.

        Raises:
            SecateursError: There is none.
        """
        for stem in self.stems:
            for suffix in SUFFIXES:
                if (found := directory / f"{stem}{suffix}").is_file():
                    return found
        raise SecateursError(f"{directory} holds no {self.stems[0]}.parquet (or .jsonl, .csv); {self.task} needs it")


def sets() -> Mapping[str, Set]:
    """Every set that is known, by the name it is asked for; the harness's own name does as well."""
    many = "multiple_choice/"
    question = ("question", "choices", "answerKey")
    found = {
        "lambada": Set(
            "lambada_openai", "lambada", ("lambada/lambada_test_openai", "lambada_openai", "lambada"), ("text",)
        ),
        "lambada_standard": Set(
            "lambada_standard", "lambada", ("lambada/lambada_test_plain_text", "lambada_standard"), ("text",)
        ),
        "hellaswag": Set(
            "hellaswag",
            "hellaswag",
            ("hellaswag/validation", "hellaswag"),
            ("activity_label", "ctx_a", "ctx_b", "endings", "label"),
            _hellaswag,
        ),
        "piqa": Set("piqa", "piqa", (f"{many}piqa_validation", "piqa"), ("goal", "sol1", "sol2", "label"), _piqa),
        "arc_easy": Set("arc_easy", "arc", (f"{many}arc_easy_test", "arc_easy"), question, _arc),
        "arc_challenge": Set("arc_challenge", "arc", (f"{many}arc_challenge_test", "arc_challenge"), question, _arc),
        "winogrande": Set(
            "winogrande",
            "winogrande",
            (f"{many}winogrande_validation", "winogrande"),
            ("sentence", "option1", "option2", "answer"),
            _winogrande,
        ),
        "boolq": Set(
            "boolq",
            "super_glue/boolq",
            (f"{many}boolq_validation", f"{many}boolq_validation_balanced", "boolq"),
            ("question", "passage", "label"),
        ),
        "storycloze": Set(
            "storycloze_2016",
            "storycloze",
            ("storycloze/test", "storycloze", "storycloze_2016"),
            (*(f"input_sentence_{i}" for i in range(1, 5)), "sentence_quiz1", "sentence_quiz2", "answer_right_ending"),
            _storycloze,
        ),
        "nq_open": Set("nq_open", "nq_open", ("qa_open/nq_open_dev", "nq_open"), ("question", "answer"), _nq),
        "webqs": Set("webqs", "webqs", ("qa_open/webquestions_test", "webqs"), ("question", "answers")),
        "triviaqa": Set(
            "triviaqa",
            "triviaqa",
            ("qa_open/triviaqa_test1000", "qa_open/triviaqa", "triviaqa"),
            ("question", "answer"),
            _trivia,
        ),
    }
    return MappingProxyType(found | {each.task: each for each in found.values()})


def _lines(path: Path) -> list[dict[str, Any]]:
    """One text a line."""
    from secateurs.tasks.tables import unzipped

    with unzipped(path) as plain:
        lines = plain.read_text(encoding="utf-8").split("\n")
    return [{"text": line} for line in lines if line]


def _hellaswag(row: Row) -> Row:
    """``ctx`` is "label: what happened. she": the harness writes the unfinished sentence at its end with a capital."""
    label, _, context = row["ctx"].partition(": ")
    *before, last = re.split(r"(?<=[.!?]) (?=[a-z])", context)
    begun = bool(before) and not re.search(r"[.!?]\W*$", last)
    whole, unfinished = (" ".join(before), last) if begun else (context, "")
    return {
        "activity_label": label,
        "ctx_a": whole,
        "ctx_b": unfinished,
        "endings": row["endings"],
        "label": row["label"],
    }


def _piqa(row: Row) -> Row:
    first, second = row["choices"]
    return {"goal": row["query"], "sol1": first, "sol2": second, "label": row["label"]}


def _arc(row: Row) -> Row:
    letters = [chr(ord("A") + i) for i in range(len(row["choices"]))]
    return {
        "question": row["query"],
        "choices": {"text": row["choices"], "label": letters},
        "answerKey": letters[row["label"]],
    }


def _winogrande(row: Row) -> Row:
    first, second = row["choices"]
    return {"sentence": row["query"], "option1": first, "option2": second, "answer": str(row["label"] + 1)}


def _storycloze(row: Row) -> Row:
    """The columns of the file that its authors send out."""
    told = {f"input_sentence_{i}": row[f"InputSentence{i}"] for i in range(1, 5)}
    return {
        **told,
        "sentence_quiz1": row["RandomFifthSentenceQuiz1"],
        "sentence_quiz2": row["RandomFifthSentenceQuiz2"],
        "answer_right_ending": int(row["AnswerRightEnding"]),
    }


def _nq(row: Row) -> Row:
    return {"question": row["question"], "answer": row["answers"]}


def _trivia(row: Row) -> Row:
    return {"question": row["question"], "answer": {"aliases": row["answers"]}}
