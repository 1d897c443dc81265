"""The manifest of an artifact: what was read, with which versions, and the length and SHA-256 of every file beside it.

The sums find damage: a download that was cut short, a file that was edited or mixed up. They are not a signature.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import secateurs
from secateurs.deploy.build import Build, Function, Transformers
from secateurs.types import SecateursError

FORMAT = "secateurs artifact 1"
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
PLAN = "plan.safetensors"
RECIPE = "recipe.yaml"
REPAIRS = "repairs.json"
PROGRAM = "program.json"
CONFIG = "config.json"
RESERVED = frozenset({"format", "build", "files", "rewritten"})


def versions() -> dict[str, str]:
    """What made the artifact: Python, secateurs, torch, and transformers where it was used."""
    found = {"python": platform.python_version(), "secateurs": secateurs.__version__, "torch": str(torch.__version__)}
    if "transformers" in sys.modules:
        found["transformers"] = str(sys.modules["transformers"].__version__)
    return found


def digest(path: Path) -> dict[str, Any]:
    """The SHA-256 of a file and its length in bytes."""
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def describe(build: Build | None) -> dict[str, Any] | None:
    """A build as the manifest has it; the config of a transformers model lies in its own file.

    Raises:
        SecateursError: An argument of a function is nothing that JSON takes.
    """
    if build is None:
        return None
    if isinstance(build, Transformers):
        return {"transformers": {"architecture": build.architecture, "attention": build.attention}}
    function = build.anchored()
    try:
        arguments = json.loads(json.dumps(dict(function.arguments), default=os.fspath, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise SecateursError(f"{build.target}: its arguments must be plain values to be written: {error}") from error
    return {"function": {"target": function.target, "arguments": arguments}}


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """Read an artifact's manifest.

    Raises:
        SecateursError: The directory is no artifact, or its manifest is damaged.
    """
    path = Path(directory) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SecateursError(f"{directory} is no secateurs artifact: there is no {MANIFEST} in it") from error
    except (OSError, ValueError) as error:
        raise SecateursError(
            f"{path} cannot be read ({error}): take the artifact again from where it was made"
        ) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict) or "format" not in manifest:
        raise SecateursError(f"{directory} is no secateurs artifact: {MANIFEST} lists no files")
    if manifest["format"] != FORMAT:
        raise SecateursError(f"{path} is a {manifest['format']!r}; this version of secateurs reads {FORMAT!r}")
    return manifest


def verify(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Compare every file of an artifact with its manifest.

    Raises:
        SecateursError: Names the first file that is missing, cut short or changed.
    """
    unlisted = {WEIGHTS, PLAN, RECIPE, REPAIRS} - set(manifest["files"])
    if unlisted:
        raise SecateursError(f"{directory / MANIFEST} does not list {min(unlisted)}: it is not as it was written")
    for name, expected in manifest["files"].items():
        path = directory / name
        if not path.is_file():
            raise SecateursError(f"{path} is missing: take the artifact again from where it was made")
        found = digest(path)
        if found != expected:
            size = (
                "" if found["bytes"] == expected.get("bytes") else f" ({found['bytes']} of {expected['bytes']} bytes)"
            )
            raise SecateursError(
                f"{path} is not as it was written{size}, its SHA-256 differs: take it again from where it was made"
            )


def read_build(directory: str | Path) -> Build | None:
    """How the artifact says its dense network is built; calling a ``Function`` of it runs the code it names.

    Raises:
        SecateursError: The directory is no artifact, or its manifest is damaged.
    """
    found = read_manifest(directory).get("build")
    try:
        if found is None:
            return None
        if "function" in found:
            return Function(**found["function"])
        config = json.loads((Path(directory) / CONFIG).read_text(encoding="utf-8"))
        return Transformers(config=config, **found["transformers"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SecateursError(
            f"{Path(directory) / MANIFEST} does not say how its network is built: {error!r}"
        ) from error
