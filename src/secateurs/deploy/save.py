"""Write a pruned network as a directory that another process, or another machine, can load and read."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateurs.archive import cause, pack_plan, pack_repairs, plain, read_state, sync, write_tensors
from secateurs.deploy.build import Build, Transformers
from secateurs.deploy.manifest import (
    CONFIG,
    FORMAT,
    MANIFEST,
    PLAN,
    PROGRAM,
    RECIPE,
    REPAIRS,
    RESERVED,
    WEIGHTS,
    describe,
    digest,
    versions,
)
from secateurs.program import Program
from secateurs.types import SecateursError

if TYPE_CHECKING:
    from secateurs.prune import Pruned
    from secateurs.recipe import Recipe


def save(
    directory: str | Path,
    pruned: Pruned,
    *,
    recipe: Recipe,
    manifest: Mapping[str, Any],
    build: Build | None,
) -> None:
    """Write an artifact: all of it, or nothing.

    Args:
        directory: Must not exist; parents are made.
        pruned: The smaller network, its plan relative to the dense one, and its repairs.
        recipe: How it was pruned.
        manifest: What to write down: readings, epsilon, seeds. Readings and paths are taken as they are.
        build: How the dense network is made anew; None: whoever loads it gives a callable.

    Raises:
        SecateursError: The directory exists, the disk is full or cannot be written, the manifest uses a reserved key,
            or the build cannot be written down.
    """
    directory = Path(directory)
    if directory.exists() or directory.is_symlink():
        raise SecateursError(f"{directory} exists: give a directory that does not, or remove it")
    taken = RESERVED & set(manifest)
    if taken:
        raise SecateursError(f"the manifest's key {min(taken)!r} is written by save itself: name yours otherwise")
    about = {"format": FORMAT, "versions": versions(), **plain(manifest), "build": describe(build)}
    about["rewritten"] = isinstance(pruned.model, Program)
    with aside(directory) as partial:
        _write_network(partial, pruned)
        (partial / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")
        if isinstance(build, Transformers):
            _write_json(partial / CONFIG, build.config)
            copy_files(build.files, partial)
        files = {path.name: digest(path) for path in sorted(partial.iterdir())}
        _write_json(partial / MANIFEST, {**about, "files": files})


def _write_network(directory: Path, pruned: Pruned) -> None:
    state, dense = read_state(pruned.model), read_state(pruned.masked)
    shapes = {name: list(tensor.shape) for name, tensor in dense.tensors.items() if name not in dense.passing}
    about = {"ties": state.ties, "passing": sorted(state.passing), "dense_shapes": shapes}
    write_tensors(directory / WEIGHTS, state.tensors, about)
    packed, sizes = pack_plan(pruned.plan)
    write_tensors(directory / PLAN, packed, {"sizes": sizes})
    _write_json(directory / REPAIRS, pack_repairs(pruned.repairs))
    if state.program is not None:
        (directory / PROGRAM).write_text(json.dumps(state.program, allow_nan=False) + "\n", encoding="utf-8")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def copy_files(files: tuple[Path, ...], directory: Path) -> None:
    """Lay files beside those of an artifact.

    Args:
        files: Tokenizer, processor.
        directory: Of the artifact.

    Raises:
        SecateursError: The artifact has a file of that name.
    """
    for file in files:
        target = directory / Path(file).name
        if target.exists():
            raise SecateursError(f"{file} cannot lie in the artifact: {target.name} is a file of its own")
        shutil.copyfile(file, target)


@contextmanager
def aside(directory: Path) -> Iterator[Path]:
    """A sibling that becomes the directory in one rename when all is written, and is gone otherwise."""
    partial = directory.parent / f".{directory.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        yield partial
        for path in partial.iterdir():
            sync(path)
        sync(partial)
        os.rename(partial, directory)
        sync(directory.parent)
    except OSError as error:
        raise SecateursError(f"{directory} could not be written, {cause(error)}: nothing was left behind") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
