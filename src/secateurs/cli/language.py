"""The commands for language models alone. ``commands`` adds them to the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from secateurs.cli.options import (
    Command,
    build_option,
    calibration_fields,
    calibration_options,
    json_option,
    seed_option,
    written,
)
from secateurs.cli.output import show
from secateurs.cli.progress import shown

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from secateurs.job.blockwise import Done
    from secateurs.on_disk import Written
    from secateurs.shrink import Shrunken

_SEQUENTIAL = "How; one that is sequential: magnitude, wanda, ria, owl, sparsegpt, alps, compensated, and _2_4 of some."
_EVEN = "How; one that takes the same share of every layer: shortgpt, osscar, stun_experts, or a file."
_MATMUL = "How float32 is multiplied: medium is bfloat16 where there is hardware, in half the time; or high, highest."


@click.command(short_help="A language model on LAMBADA, HellaSwag and others.")
@click.argument("model")
@click.option(
    "--tasks", required=True, metavar="LIST", help="lambada,hellaswag,piqa,arc_easy,arc_challenge,winogrande,..."
)
@click.option(
    "--data", required=True, metavar="DIR", envvar="SECATEURS_DATA", show_envvar=True, help="Where the files are."
)
@click.option("--limit", type=int, metavar="N", help="At most N examples of each, evenly spaced.  [default: all]")
@click.option("--few-shot", type=int, default=0, show_default=True, help="Solved examples shown before each question.")
@click.option("--batch-size", type=int, default=8, show_default=True, help="Sequences of a forward pass.")
@build_option
@seed_option
@json_option
def evaluate(model: str, tasks: str, as_json: bool, **given: Any) -> None:
    """Ask the language model MODEL what lm-evaluation-harness asks, from files of your own; nothing is fetched.

    MODEL is a transformers directory or hub name, a GGUF file, or an artifact.
    """
    with shown():
        from pathlib import Path

        from secateurs.job.evaluating import evaluate_named
        from secateurs.report import document, table
        from secateurs.tasks.zero_shot import ZeroShot

        build, where = given.pop("build"), Path(given.pop("data"))
        wanted = ZeroShot(tuple(name.strip() for name in tasks.split(",") if name.strip()), where, **given)
        found = evaluate_named(model, wanted, (build,) if build else ())
    show(
        {"model": model, "measures": document.readings(found)},
        as_json,
        table.readings(found, title=model),
        *table.notes(found),
    )


def _on_disk_options(sparsity: float, recipe: str, how: str, ending: str) -> Callable[[Command], Command]:
    """What both commands for a checkpoint on disk are told; their defaults, and what recipes they take."""
    options = (
        calibration_options,
        click.option("--sparsity", type=float, default=sparsity, show_default=True, help="Fraction that goes."),
        click.option("--recipe", default=recipe, show_default=True, metavar="NAME|FILE", help=how),
        click.option("--output", metavar="DIR", help=f"Must not exist yet.  [default: MODEL's name with -{ending}]"),
        click.option("--shelf", metavar="DIR", help="Where batches lie while they wait.  [default: in memory]"),
        click.option("--matmul", default="medium", show_default=True, metavar="NAME", help=_MATMUL),
        click.option("--device", default="cpu", show_default=True, metavar="NAME", help="cpu or cuda."),
        seed_option,
        json_option,
    )

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.command(short_help="A language model of any size made sparse in one shot.")
@click.argument("model")
@_on_disk_options(0.5, "sparsegpt", _SEQUENTIAL, "sparse")
def sparsify(model: str, as_json: bool, **given: Any) -> None:
    """Make single weights of the language model MODEL zero, block by block, with one block in memory at a time.

    MODEL is a transformers directory with safetensors, or a GGUF file; what comes out is a plain transformers
    directory of the same shapes. `shrink` makes a network smaller. What was interrupted or killed goes on when the same
    command is given again.
    """
    with shown():
        from secateurs.archive import plain
        from secateurs.job.blockwise import Wanted
        from secateurs.job.sparsifying import sparsify_named

        fields = calibration_fields(given)
        done = sparsify_named(model, fields, Wanted(**given))
        lines = _next(done.written.directory, fields)
    show(
        {"model": model, "sparsity": done.written.sparsity, "dense": list(done.written.dense), **plain(done)},
        as_json,
        _summary(done, model),
        *lines,
    )


@click.command(short_help="A language model of any size made smaller in one shot.")
@click.argument("model")
@_on_disk_options(0.25, "shortgpt", _EVEN, "smaller")
def shrink(model: str, as_json: bool, **given: Any) -> None:
    """Take blocks, or units of every block, of the language model MODEL away, with one block in memory at a time.

    MODEL is a transformers directory with safetensors, or a GGUF file; what comes out is a plain transformers
    directory with another config. `prune` has the whole network in memory, searches under a bound, and takes any
    recipe; here every layer loses the stated share. What was interrupted or killed goes on when the same command is
    given again.
    """
    with shown():
        from secateurs.archive import plain
        from secateurs.job.blockwise import Wanted
        from secateurs.job.shrinking import shrink_named

        fields = calibration_fields(given)
        done = shrink_named(model, fields, Wanted(**given))
        lines = _next(done.written.directory, fields)
    changes = [f"  {name}: {old} -> {new}" for name, (old, new) in done.written.config.items()]
    show({"model": model, **plain(done)}, as_json, _what_is_left(done, model), "Its config:", *changes, *lines)


def _next(where: Path, fields: Mapping[str, Any]) -> list[str]:
    """That it is saved, and what to measure it by."""
    from secateurs.tasks.pretrained import is_language_model

    if not is_language_model(str(where)):
        return [f"Saved in {where}; from_pretrained loads it."]
    measured = {"train": fields.get("train", "train.txt"), "evaluation": "test.txt"}
    measured |= {name: fields[name] for name in ("text", "length", "bos") if name in fields}
    return [
        f"Saved in {where}; from_pretrained loads it. Next:",
        f"  secateurs measure {written(where, 'language_modelling', measured)}",
    ]


def _what_is_left(done: Done[Shrunken], title: str) -> Table:
    from secateurs.report import table
    from secateurs.report.numbers import number
    from secateurs.types import few

    before, after = done.written.parameters
    lines = [("parameters", number(after, "parameters"), f"of {number(before, 'parameters')}: {after / before:.4f}")]
    if gone := done.written.gone:
        lines.append(("blocks gone", str(len(gone)), few(gone)))
    lines += _costs(done, done.written.before, "")
    return table.rows({"": False, "value": True, "how": False}, lines, title=title)


def _costs(done: Done[Any], before: int, layout: str) -> list[tuple[str, str, str]]:
    from secateurs.report.numbers import number, seconds

    earlier = f"; {before} blocks were written before" if before else ""
    return [
        ("time", seconds(done.seconds), f"this run{earlier}"),
        ("peak memory", "-" if done.peak_bytes is None else number(done.peak_bytes, "B"), "of the process"),
        ("size on disk", number(done.size_bytes, "B"), f"{done.files} files{layout}"),
    ]


def _summary(done: Done[Written], title: str) -> Table:
    from secateurs.report import table
    from secateurs.report.numbers import number
    from secateurs.types import few

    zeros, entries = sum(done.written.zeros.values()), sum(done.written.entries.values())
    n_weights = len(done.written.entries)
    lines = [
        ("sparsity", f"{done.written.sparsity:.4f}", f"{zeros:,} zeros in {n_weights} weights of the blocks"),
        ("entries", number(entries), "of these weights"),
        *_costs(done, done.written.before, ", dense layout with zeros"),
    ]
    if dense := done.written.dense:
        lines.insert(1, ("left dense", str(len(dense)), few(dense)))
    return table.rows({"": False, "value": True, "how": False}, lines, title=title)
