"""The commands. Each opens what it was given, calls one function of ``secateurs.job``, and shows what came back."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

import secateurs
from secateurs.cli.errors import Guarded
from secateurs.cli.language import evaluate, shrink, sparsify
from secateurs.cli.options import (
    PREFER,
    batch_option,
    build_option,
    drawing_options,
    json_option,
    optional_task_options,
    seed_option,
    task_options,
    text_fields,
    written,
)
from secateurs.cli.output import show, show_result
from secateurs.cli.progress import shown

if TYPE_CHECKING:
    from secateurs.job.opening import TaskName


@click.group(cls=Guarded, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(secateurs.__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Prune a trained PyTorch network as far as a stated loss of quality allows, and measure what that gives."""
    # A module of the user's own is found from where the command is given, as by `python -m`.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


@main.command(short_help="Prune a network trained there and then on real digits.")
@click.option("--model", type=click.Choice(["conv", "vit"]), default="conv", show_default=True, help="What is pruned.")
@click.option("--epsilon", type=float, default=0.01, show_default=True, help="How much accuracy may be lost.")
@click.option("--output", metavar="DIR", help="Must not exist yet.  [default: a new secateurs-demo-MODEL]")
@seed_option
@json_option
def demo(model: str, epsilon: float, output: str | None, seed: int, as_json: bool) -> None:
    """Train a small network on real digits, prune it under the bound, save it, reload it, and measure both.

    Needs no data and no network connection; takes less than two minutes.
    """
    with shown():
        from pathlib import Path

        from secateurs.job.demo import Demo, free

        where = Path(output) if output else free(Path(f"secateurs-demo-{model}"))
        result = Demo(model, epsilon, where, seed)()
    show_result(f"{model} on {result.task}", result, as_json, dense=where / "dense")


@main.command(short_help="Prune a network of your own as far as the bound allows.")
@click.argument("model")
@task_options
@click.option("--epsilon", type=float, required=True, help="How much of the task's quality may be lost, e.g. 0.01.")
@click.option("--recipe", default="default", show_default=True, metavar="NAME|FILE", help="How to prune and to heal.")
@click.option("--p", type=float, metavar="P", help="Evaluate this sparsity only, instead of searching the largest.")
@click.option("--output", metavar="DIR", help="Must not exist yet.  [default: MODEL's name with -pruned]")
@click.option("--prefer", metavar="LIST", default="macs,latency,energy", show_default=True, help=PREFER)
@click.option("--start", type=float, default=0.3, show_default=True, help="The first sparsity that is tried.")
@click.option("--tolerance", type=float, default=0.02, show_default=True, help="How closely the largest is found.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="That epsilon is kept; 0.5: no margin.")
@click.option("--weights", metavar="FILE", help="State of a network that a function builds.")
@batch_option
@seed_option
@json_option
def prune(model: str, weights: str | None, as_json: bool, **given: Any) -> None:
    """Prune MODEL as far as its quality on a task stays within epsilon; save it, reload it, and measure both.

    MODEL is a directory or hub name of a transformers sequence classifier or language model, a GGUF file, or
    file.py:function, which builds the network. It is held in memory: `shrink` prunes language models that are too large
    for that. What was interrupted goes on when the same command is given again.
    """
    with shown():
        from secateurs.job.opening import TaskName
        from secateurs.job.pruning import Wanted, prune_named

        task = TaskName(given.pop("task"), text_fields(given))
        result = prune_named((model, weights), task, Wanted(**given))
    show_result(f"{model} on {result.task}", result, as_json)


@main.command(short_help="The dims of a network: who carries them, what each costs, what is frozen.")
@click.argument("model")
@optional_task_options
@click.option("--shape", metavar="SHAPE", help="Shape of the input, e.g. 1x3x32x32; several separated by commas.")
@click.option("--carriers", is_flag=True, help="Name every tensor axis that carries a dim.")
@drawing_options
@build_option
@json_option
def inspect(model: str, shape: str | None, carriers: bool, as_json: bool, **given: Any) -> None:
    """Show the dims of MODEL: name, size, who carries them, what each costs, what is frozen and why."""
    with shown():
        from secateurs.archive import plain
        from secateurs.job.inspecting import inspect_named
        from secateurs.report import dims, drawing
        from secateurs.report.numbers import number

        build, drawings = given.pop("build"), drawing.wanted(given.pop("dot"), given.pop("html"))
        found = inspect_named(model, shape, _task(given), (build,) if build else ())
        parameters, macs = number(found.parameters, "parameters"), number(found.macs, "MAC")
        total = f"{model}: {parameters} parameters, {macs} on the example inputs"
        drawn = [f"Drawn in {drawing.write(it, model, total, found)}" for it in drawings]
    unknown = (
        [f"operators without a rule, which freeze what they touch: {', '.join(found.unknown)}"] if found.unknown else []
    )
    free = dims.prunable(found.costs, every_carrier=carriers)
    depth = [dims.layers(found.depths)] if found.depths else []
    show({"model": model, **plain(found)}, as_json, total, free, *depth, dims.frozen(found.costs), *unknown, *drawn)


@main.command(short_help="Make the dense model of a pretrained one.")
@click.argument("model")
@task_options
@click.option("--output", metavar="DIR", required=True, help="Must not exist yet.")
@click.option("--epochs", type=float, default=1.0, show_default=True, help="Passes over the training texts.")
@click.option("--learning-rate", type=float, default=1e-4, show_default=True, help="Its highest value.")
@click.option("--device", metavar="NAME", help="Where to train.  [default: cuda where there is one, else cpu]")
@seed_option
@json_option
def finetune(model: str, output: str, seed: int, as_json: bool, **given: Any) -> None:
    """Train the pretrained MODEL on a task of texts: the dense model, where there is none yet."""
    with shown():
        from secateurs.archive import plain
        from secateurs.job.finetuning import finetune_named
        from secateurs.job.opening import TaskName
        from secateurs.recoveries.fine_tune import FineTune
        from secateurs.report import table

        device = given.pop("device")
        training = FineTune(epochs=given.pop("epochs"), learning_rate=given.pop("learning_rate"))
        task = TaskName(given.pop("task"), text_fields(given))
        done = finetune_named(model, task, output, training, seed, device)
    show(
        {"model": model, "task": task.name, **plain(done)},
        as_json,
        table.readings(
            {f"{it.measure}, {split}": it for split, it in done.readings.items()}, title=f"{model} on {task.name}"
        ),
        f"Saved in {done.directory}. Next:",
        f"  secateurs prune {written(done.directory, task.name, task.options)} --epsilon 0.01",
    )


@main.command(short_help="Write a pruned transformers model for from_pretrained.")
@click.argument("artifact")
@optional_task_options
@click.option("--output", metavar="DIR", required=True, help="Must not exist yet.")
@json_option
def export(artifact: str, output: str, as_json: bool, **given: Any) -> None:
    """Write ARTIFACT as a plain transformers directory, which from_pretrained loads without secateurs.

    That needs a config that says all its sizes: layers alike must have kept the same counts. An artifact knows the task
    whose inputs prove it; --task names another.
    """
    with shown():
        from secateurs.job.exporting import export_named

        done = export_named(artifact, output, _task(given))
    changes = [f"  {name}: {old} -> {new}" for name, (old, new) in done.changes.items()]
    show(
        {
            "artifact": artifact,
            "directory": str(done.directory),
            "architecture": done.architecture,
            "config": done.changes,
        },
        as_json,
        f"{artifact} as a plain {done.architecture} in {done.directory}; its config:",
        *changes,
    )


@main.command(short_help="Every measure of a network.")
@click.argument("model")
@optional_task_options
@click.option("--weights", metavar="FILE", help="State of a network that a function builds.")
@batch_option
@build_option
@json_option
def measure(model: str, weights: str | None, as_json: bool, **given: Any) -> None:
    """Take every measure of MODEL on a task: quality, parameters, MACs, latency, memory, energy, size.

    An artifact knows its task; anything else needs --task.
    """
    with shown():
        from secateurs.job.measuring import Settings, measure_named
        from secateurs.report import document, table

        build, settings = given.pop("build"), Settings(batch_size=given.pop("batch_size"))
        found = measure_named((model, weights), _task(given), settings, (build,) if build else ())
    show(
        {"model": model, "measures": document.readings(found)},
        as_json,
        table.readings(found, title=model),
        *table.notes(found),
    )


@main.command(short_help="Two networks side by side.")
@click.argument("a")
@click.argument("b")
@optional_task_options
@click.option("--weights", metavar="FILE", help="State of network A, where a function builds it.")
@batch_option
@build_option
@json_option
def compare(a: str, b: str, weights: str | None, as_json: bool, **given: Any) -> None:
    """Measure network B against network A: the ratio of latencies with its interval, and everything else.

    An artifact knows its task; anything else needs --task.
    """
    with shown():
        from secateurs.job.measuring import Settings, compare_named
        from secateurs.report import document, table

        build, settings = given.pop("build"), Settings(batch_size=given.pop("batch_size"))
        found = compare_named((a, weights), b, _task(given), settings, (build,) if build else ())
    show(
        {"a": a, "b": b, **document.comparison(found)},
        as_json,
        table.comparison(found, title=f"{a} (dense) | {b} (pruned)"),
        *found.notes,
    )


main.add_command(evaluate)
main.add_command(sparsify)
main.add_command(shrink)


def _task(given: dict[str, Any]) -> TaskName | None:
    from secateurs.job.opening import TaskName

    name, fields = given.pop("task"), text_fields(given)
    if name is None and fields:
        raise click.UsageError(f"--{next(iter(fields))} says something of a task; give --task too")
    return TaskName(name, fields) if name else None
