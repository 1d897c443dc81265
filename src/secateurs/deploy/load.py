"""Load what ``save`` wrote: no tracer, no pickle, and no code that the files chose."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from secateurs.archive import State, give_state_, read_state, read_tensors, unpack_plan, unpack_repairs
from secateurs.deploy.build import Function
from secateurs.deploy.manifest import PLAN, PROGRAM, RECIPE, REPAIRS, WEIGHTS, read_build, read_manifest, verify
from secateurs.program import read_program
from secateurs.repair import apply_repairs_, prepare_
from secateurs.types import Plan, SecateursError

if TYPE_CHECKING:
    from secateurs.recipe import Recipe


def load(directory: str | Path, build: Callable[[], nn.Module] | None = None) -> nn.Module:
    """Load a pruned network, ready to run, on the CPU and in evaluation mode.

    Every file is first compared with the manifest's SHA-256. The dense network is built, given the stored tensors,
    and its sizes are repaired; the global random state is left as it was. A network that had to be rewritten needs
    no build: it comes back as a ``Program``, its operators.

    Args:
        directory: An artifact.
        build: Makes the dense network the artifact was pruned from. None: as the manifest says, where that is a class
            of transformers or a network that comes with secateurs. ``read_build(directory)`` is what the manifest
            says; pass it here to run a function that you trust.

    Raises:
        SecateursError: No artifact; a file is missing, cut short or changed (named); a build is needed, or builds
            another network than the one that was pruned.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    verify(directory, manifest)
    if PROGRAM in manifest["files"]:
        tensors, about = read_tensors(directory / WEIGHTS)
        return read_program(json.loads((directory / PROGRAM).read_text(encoding="utf-8")), tensors, about["ties"])
    build = build or _own_build(directory)
    with torch.random.fork_rng(devices=[]):
        model = build()
    if not isinstance(model, nn.Module):
        raise SecateursError(f"build returned {type(model).__name__}, not a torch.nn.Module")
    tensors, about = read_tensors(directory / WEIGHTS)
    _check_shapes(model, about["dense_shapes"])
    repairs = unpack_repairs(json.loads((directory / REPAIRS).read_text(encoding="utf-8")))
    prepare_(model, repairs)
    give_state_(model, State(tensors, about["ties"], frozenset(about["passing"])))
    apply_repairs_(model, repairs)
    return model.eval()


def _own_build(directory: Path) -> Callable[[], nn.Module]:
    build = read_build(directory)
    if build is None:
        raise SecateursError(f"{directory} does not say how its network is built: give load(directory, build=...)")
    if isinstance(build, Function) and not build.ours:
        raise SecateursError(
            f"{directory} is built by {build.target}, which is your code to run: give load(directory, build=...)"
        )
    return build


def _check_shapes(model: nn.Module, dense: Mapping[str, Any]) -> None:
    for name, tensor in read_state(model).tensors.items():
        if name in dense and list(tensor.shape) != dense[name]:
            raise SecateursError(
                f"{name} is built as {list(tensor.shape)} and was {dense[name]} when it was pruned: build that network"
            )


def read_plan(directory: str | Path) -> Plan:
    """Read which units an artifact kept, relative to the dense network.

    Raises:
        SecateursError: No artifact, or a file of it is missing, cut short or changed.
    """
    directory = Path(directory)
    verify(directory, read_manifest(directory))
    packed, about = read_tensors(directory / PLAN)
    return unpack_plan(packed, about["sizes"])


def read_recipe(directory: str | Path) -> Recipe:
    """Read how an artifact was pruned.

    Raises:
        SecateursError: No artifact, a file of it is missing, cut short or changed, or it names parts that are not here.
    """
    from secateurs.recipe import Recipe  # the parts and their imports are not needed to load a model

    directory = Path(directory)
    verify(directory, read_manifest(directory))
    return Recipe.from_yaml((directory / RECIPE).read_text(encoding="utf-8"))
