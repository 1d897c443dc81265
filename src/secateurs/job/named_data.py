"""Where the data of a task are, as the user says it: plain options by name, checked and fitted to the task's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from secateurs.types import SecateursError

if TYPE_CHECKING:
    from secateurs.tasks.language_modelling import LanguageData
    from secateurs.tasks.text_classification import TextData

LANGUAGE = "language_modelling"


def text_data(name: str, options: Mapping[str, Any]) -> TextData:
    """Where the texts of a task are.

    Args:
        name: ``text`` or ``glue/<task>``.
        options: Fields of ``TextData``.

    Raises:
        SecateursError: No such task or option, or it is not said where the texts are.
    """
    from secateurs.tasks.text_classification import TextData, glue

    if name == "text":
        missing = [each for each in ("train", "evaluation") if not options.get(each)]
        if missing:
            raise SecateursError(f"task text needs --{missing[0]}-file: a parquet, csv or jsonl file")
        return TextData(**_known(name, options, TextData))
    if name.startswith("glue/"):
        return glue(name, **_known(name, options, TextData))
    raise SecateursError(f"no task '{name}'; give mnist, text, glue/sst2, glue/cola, {LANGUAGE} or file.py:function")


def language_data(options: Mapping[str, Any]) -> LanguageData:
    """Where the text of ``language_modelling`` is.

    Args:
        options: Fields of ``LanguageData``.

    Raises:
        SecateursError: It is not said where, or an option says nothing of such a task.
    """
    from secateurs.tasks.language_modelling import LanguageData

    if not options.get("train"):
        raise SecateursError(f"task {LANGUAGE} needs --data: a text, a table with a column of texts, or token ids")
    given = dict(_known(LANGUAGE, options, LanguageData))
    column = given.get("text", "text")
    if not isinstance(column, str):
        if len(column) != 1:
            raise SecateursError(f"task {LANGUAGE} reads one column of text, got {len(column)}")
        given["text"] = column[0]
    return LanguageData(**given)


def _known(name: str, options: Mapping[str, Any], of: type) -> Mapping[str, Any]:
    known = [each.name for each in fields(of)]
    for option in options:
        if option not in known:
            raise SecateursError(f"task {name} has no '{option}'; it has: {', '.join(known)}")
    return options
