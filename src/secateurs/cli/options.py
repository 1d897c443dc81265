"""Options that several commands share."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

FILES = ("train", "evaluation", "selection")
PREFER = "What to make small first, in order; or weights: macs=1,latency=2."
_TASK_HELP = "glue/sst2, text or language_modelling (files given below), mnist, or file.py:function of your own."


def _cut(of: str = "") -> tuple[Callable[[Any], Any], ...]:
    """How calibration sequences are cut from a text; ``of`` says of which task that is."""
    tokens, sequences = (f"{of}: {word}" if of else word.capitalize() for word in ("tokens", "calibration sequences"))
    return (
        click.option("--length", type=int, metavar="N", help=f"{tokens} of a sequence.  [default: 512]"),
        click.option("--count", type=int, metavar="N", help=f"{sequences}.  [default: 64]"),
        click.option("--starts", type=click.Choice(["even", "random"]), help="How these are chosen.  [default: even]"),
        click.option(
            "--bos", is_flag=True, default=None, help="Begin every sequence with the tokenizer's first token."
        ),
    )


_TASK = (
    click.option("--task", "task", metavar="TASK", required=True, help=_TASK_HELP),
    click.option(
        "--train-file",
        "--train",
        "--data",
        metavar="FILE",
        help="Texts to calibrate and heal on: parquet, csv, jsonl; for language_modelling any text too, or token ids.",
    ),
    click.option("--evaluation-file", "--eval", metavar="FILE", help="Texts that decide and report, half each."),
    click.option("--selection-file", metavar="FILE", help="language_modelling: text that decides; the other reports."),
    click.option("--text", multiple=True, metavar="COLUMN", help="Column of the text; twice for a pair."),
    click.option("--label", metavar="COLUMN", help="Column of the class."),
    click.option("--metric", metavar="NAME", help="accuracy, f1 or matthews."),
    click.option("--max-length", type=int, metavar="N", help="Tokens kept of one text."),
    *_cut("language_modelling"),
    click.option("--stride", type=int, metavar="N", help="From one evaluation window to the next.  [default: length]"),
    click.option("--windows", type=int, metavar="N", help="Evaluation windows, from the start.  [default: all]"),
    click.option(
        "--select-from",
        type=click.Choice(["evaluation", "train"]),
        help="What decides: half of the evaluation texts, or texts held out of training (then all evaluation texts "
        "report).  [default: evaluation]",
    ),
)


def task_options(command: Command) -> Command:
    """``--task`` and what a task of texts can be told.

    Args:
        command: The command to decorate.
    """
    for option in reversed(_TASK):
        command = option(command)
    return command


def optional_task_options(command: Command) -> Command:
    """The same where the command can do without a task.

    Args:
        command: The command to decorate.
    """
    first = click.option("--task", "task", metavar="TASK", help=_TASK_HELP)
    for option in reversed((first, *_TASK[1:])):
        command = option(command)
    return command


def calibration_options(command: Command) -> Command:
    """The text that a language model is calibrated on, alone.

    Args:
        command: The command to decorate.
    """
    source = click.option(
        "--train",
        "--train-file",
        "--data",
        metavar="FILE",
        help="What to calibrate on: a text, a table (parquet, csv, jsonl), or token ids (pt, npy, safetensors). "
        "A recipe that looks at weights alone needs none.",
    )
    column = click.option("--text", metavar="COLUMN", help="Column of a table.  [default: text]")
    batch = click.option("--batch-size", type=int, default=4, show_default=True, help="Sequences of a forward pass.")
    for option in reversed((source, column, *_cut(), batch)):
        command = option(command)
    return command


def calibration_fields(given: dict[str, Any]) -> dict[str, Any]:
    """Take these out of a command's arguments: fields of ``LanguageData``.

    Args:
        given: The command's arguments; what belongs to the calibration is removed.
    """
    names = ("train", "text", "length", "count", "starts", "bos", "batch_size", "seed")
    return {name: value for name in names if (value := given.pop(name)) is not None}


def drawing_options(command: Command) -> Command:
    """``--dot`` and ``--html``.

    Args:
        command: The command to decorate.
    """
    dot = click.option("--dot", metavar="FILE", help="Draw the dims and who carries them, for Graphviz.")
    html = click.option("--html", metavar="FILE", help="Draw them as a page for a browser, with a table to search.")
    return dot(html(command))


def text_fields(given: dict[str, Any]) -> dict[str, Any]:
    """Take the options of a task of texts out of a command's arguments: fields of ``TextData`` or ``LanguageData``.

    Args:
        given: The command's arguments; what belongs to the task is removed.
    """
    fields = {
        "train": given.pop("train_file"),
        "evaluation": given.pop("evaluation_file"),
        "selection": given.pop("selection_file"),
        "text": given.pop("text") or None,
        "label": given.pop("label"),
        "metric": given.pop("metric"),
        "max_length": given.pop("max_length"),
        "select_from": given.pop("select_from"),
        **{name: given.pop(name) for name in ("length", "count", "starts", "stride", "windows", "bos")},
    }
    return {name: value for name, value in fields.items() if value is not None}


def written(model: object, task: str, fields: Mapping[str, Any]) -> str:
    """A network and a task as they are written on a command line.

    Args:
        model: Its directory.
        task: Its name.
        fields: What ``text_fields`` gave.
    """
    words = [str(model), "--task", task]
    for name, value in fields.items():
        option = f"--{name}-file" if name in FILES else f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
            continue
        for each in value if isinstance(value, tuple) else (value,):
            words += [option, str(each)]
    return shlex.join(words)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else.")
build_option = click.option(
    "--build", metavar="FUNCTION", help="Allow an artifact to be built by this function of yours (file.py:function)."
)
batch_option = click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Batch that is timed.")
seed_option = click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same result.")
