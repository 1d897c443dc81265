"""An artifact written in the form that another library loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from secateurs.deploy import Transformers, load, read_build
from secateurs.deploy.build import companions
from secateurs.deploy.config import common_fields
from secateurs.deploy.manifest import CONFIG, MANIFEST
from secateurs.deploy.pretrained import save_pretrained
from secateurs.job.examples import of_config
from secateurs.job.opening import TaskName, open_model, open_task, recorded_task
from secateurs.job.output import check_output
from secateurs.tasks.pretrained import quiet
from secateurs.types import SecateursError


@dataclass(frozen=True)
class Exported:
    """A directory that was written.

    Args:
        directory: Where.
        architecture: The class that loads it.
        changes: Field of the config -> what it was and what it is.
    """

    directory: Path
    architecture: str
    changes: Mapping[str, tuple[Any, Any]]


def export_named(artifact: str, output: str | Path, task: TaskName | None = None) -> Exported:
    """Write an artifact as a plain ``from_pretrained`` directory.

    Args:
        artifact: Its directory.
        output: Must not exist.
        task: Whose inputs prove that both compute the same; None: the one the artifact was made for, or else what the
            model says of its own inputs.

    Raises:
        SecateursError: No artifact, none of a transformers model, or no config makes this network.
    """
    check_output(Path(output))
    _check_artifact(Path(artifact))
    build = read_build(artifact)
    if not isinstance(build, Transformers):
        raise SecateursError(f"{artifact} is no model of transformers; load it by secateurs.load")
    task = task or recorded_task(artifact)
    model = load(artifact)
    inputs = open_task(task, open_model(artifact)).example_inputs if task else of_config(model, "give --task")
    with quiet():
        save_pretrained(output, model, replace(build, files=companions(artifact)), inputs)
    after = json.loads((Path(output) / CONFIG).read_text(encoding="utf-8"))
    own = build.config.keys() - common_fields()
    changes = {name: (build.config[name], new) for name, new in after.items() if name in own}
    return Exported(
        Path(output), build.architecture, {n: (old, new) for n, (old, new) in changes.items() if old != new}
    )


def _check_artifact(directory: Path) -> None:
    if (directory / MANIFEST).is_file():
        return
    if (directory / CONFIG).is_file():
        raise SecateursError(f"{directory} is a plain transformers directory already: from_pretrained loads it")
    there = "is no artifact" if directory.exists() else "does not exist"
    raise SecateursError(f"{directory} {there}: give the directory that `secateurs prune` made")
