"""The commands for language models alone. ``commands`` adds them to the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from secateurs.cli.options import (
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
    from rich.table import Table

    from secateurs.job.sparsifying import Sparsified

_RECIPE = "How; one that is sequential: magnitude, wanda, ria, owl, sparsegpt, alps, compensated, and _2_4 of some."
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


@click.command(short_help="A language model of any size made sparse in one shot.")
@click.argument("model")
@calibration_options
@click.option("--sparsity", type=float, default=0.5, show_default=True, help="Fraction of weights that becomes zero.")
@click.option("--recipe", default="sparsegpt", show_default=True, metavar="NAME|FILE", help=_RECIPE)
@click.option("--output", metavar="DIR", help="Must not exist yet.  [default: MODEL's name with -sparse]")
@click.option("--shelf", metavar="DIR", help="Where batches lie while they wait.  [default: in memory]")
@click.option("--matmul", default="medium", show_default=True, metavar="NAME", help=_MATMUL)
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="Where to compute: cpu or cuda.")
@seed_option
@json_option
def sparsify(model: str, as_json: bool, **given: Any) -> None:
    """Make single weights of the language model MODEL zero, block by block, with one block in memory at a time.

    MODEL is a transformers directory with safetensors, or a GGUF file; what comes out is a plain transformers
    directory of the same shapes. `prune` makes a network smaller, under a bound; here the sparsity is as stated. What
    was interrupted or killed goes on when the same command is given again.
    """
    with shown():
        from secateurs.archive import plain
        from secateurs.job.sparsifying import Wanted, sparsify_named
        from secateurs.tasks.pretrained import is_language_model

        fields = calibration_fields(given)
        done = sparsify_named(model, fields, Wanted(**given))
        where = done.written.directory
        measured = {"train": fields.get("train", "train.txt"), "evaluation": "test.txt"}
        measured |= {name: fields[name] for name in ("text", "length", "bos") if name in fields}
        lines = [f"Saved in {where}; from_pretrained loads it."]
        if is_language_model(str(where)):
            lines = [f"{lines[0]} Next:", f"  secateurs measure {written(where, 'language_modelling', measured)}"]
    show(
        {"model": model, "sparsity": done.written.sparsity, "dense": list(done.written.dense), **plain(done)},
        as_json,
        _summary(done, model),
        *lines,
    )


def _summary(done: Sparsified, title: str) -> Table:
    from secateurs.report import table
    from secateurs.report.numbers import number, seconds
    from secateurs.types import few

    zeros, entries = sum(done.written.zeros.values()), sum(done.written.entries.values())
    n_weights = len(done.written.entries)
    before = f"; {done.written.before} blocks were written before" if done.written.before else ""
    lines = [
        ("sparsity", f"{done.written.sparsity:.4f}", f"{zeros:,} zeros in {n_weights} weights of the blocks"),
        ("entries", number(entries), "of these weights"),
        ("time", seconds(done.seconds), f"this run{before}"),
        ("peak memory", "-" if done.peak_bytes is None else number(done.peak_bytes, "B"), "of the process"),
        ("size on disk", number(done.size_bytes, "B"), f"{done.files} files, dense layout with zeros"),
    ]
    if dense := done.written.dense:
        lines.insert(1, ("left dense", str(len(dense)), few(dense)))
    return table.rows({"": False, "value": True, "how": False}, lines, title=title)
