"""A pruned network of a search on the disk: tensors of the small network, plan, repairs; and back, to the bit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from secateurs.archive import (
    State,
    give_state_,
    pack_plan,
    pack_repairs,
    read_state,
    read_tensors,
    sync,
    unpack_plan,
    unpack_repairs,
    write_tensors,
)
from secateurs.measures.instruments.forward import device_of
from secateurs.program import read_program
from secateurs.prune import Pruned
from secateurs.repair import apply_repairs_, bias_, copied, prepare_
from secateurs.search.journal import unwritten
from secateurs.surgery import scatter_
from secateurs.types import Group, SecateursError


def keep(path: Path, pruned: Pruned) -> None:
    """Write it, all or nothing.

    Raises:
        SecateursError: The disk is full or cannot be written.
    """
    state = read_state(pruned.model)
    packed, sizes = pack_plan(pruned.plan)
    tensors = {**_under("model", state.tensors), **_under("plan", packed)}
    about = {
        "ties": state.ties,
        "passing": sorted(state.passing),
        "sizes": sizes,
        "repairs": pack_repairs(pruned.repairs),
        "sparsity": pruned.sparsity,
        "program": state.program,
    }
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(exist_ok=True)
        write_tensors(partial, tensors, about)
        os.replace(partial, path)
        sync(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise unwritten(path, error) from error


def restore(path: Path, model: nn.Module, groups: tuple[Group, ...]) -> Pruned:
    """Read what ``keep`` wrote.

    Args:
        path: The file.
        model: The dense network; left alone.
        groups: Of that network.

    Raises:
        SecateursError: The file is missing or damaged, or belongs to another network.
    """
    tensors, about = read_tensors(path)
    try:
        state = State(_below("model", tensors), about["ties"], frozenset(about["passing"]), about["program"])
        plan = unpack_plan(_below("plan", tensors), about["sizes"])
        repairs, sparsity = unpack_repairs(about["repairs"]), float(about["sparsity"])
    except (KeyError, TypeError, ValueError) as error:
        raise SecateursError(
            f"{path} holds no pruned network ({error!r}): search again in another directory"
        ) from error
    masked = copied(model)
    if state.program is None:
        small = copied(model)
        prepare_(small, repairs)
        give_state_(small, state)
        apply_repairs_(small, repairs)
    else:
        small = read_program(state.program, state.tensors, state.ties).to(device_of(model))
    bias_(masked, repairs)
    scatter_(masked, small, groups, plan)
    return Pruned(small, plan, repairs, masked, groups, sparsity)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {n.removeprefix(f"{prefix}/"): t for n, t in tensors.items() if n.startswith(f"{prefix}/")}
