"""A network's tensors, a plan and its repairs as safetensors, and back: exact, without pickle, without the tracer.

What a file holds is data alone; reading one runs no code. An artifact and a search that can be resumed are both written
with what stands here.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from errno import ENOSPC
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from secateurs.listed import Listed
from secateurs.program import Program, places
from secateurs.repair import Biased, Change, Repair
from secateurs.types import Argument, Plan, Returns, SecateursError, Skip
from secateurs.vocabulary import Tokens

Metadata = Mapping[str, Any]


@dataclass(frozen=True)
class State:
    """Every tensor of a network, once.

    Args:
        tensors: Qualified name -> parameter or buffer, on the CPU; a tied tensor under its first name only. Buffers
            that ``state_dict`` leaves out are here too: pruning may have changed their shape.
        ties: Every other name of a tied tensor -> its first name.
        passing: The buffers that ``state_dict`` leaves out; a newer version of the network's code may lack them.
        program: The operators, where the network had to be rewritten.
    """

    tensors: Mapping[str, Tensor]
    ties: Mapping[str, str]
    passing: frozenset[str] = frozenset()
    program: Mapping[str, Any] | None = None


def read_state(model: nn.Module) -> State:
    """Take every tensor of a network (no copies, where they lie on the CPU already)."""
    tensors: dict[str, Tensor] = {}
    ties: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, _, tensor in places(model):
        if id(tensor) in first:
            ties[name] = first[id(tensor)]
        else:
            first[id(tensor)] = name
            tensors[name] = tensor.detach().cpu().contiguous()
    return State(tensors, ties, _passing(model), model.to_json() if isinstance(model, Program) else None)


def give_state_(model: nn.Module, state: State) -> None:
    """Give every parameter and buffer its stored tensor, whatever its shape; tied names share one tensor again.

    Args:
        model: Changed in place; ``requires_grad`` stays as it is.
        state: Of a network with the same names.

    Raises:
        SecateursError: A tensor of the model is not stored, or a stored one has no place in the model.
    """
    held = list(places(model))
    _check_names({name for name, _, _ in held}, state, _passing(model))
    given: dict[str, Tensor] = {}
    used: set[int] = set()
    for name, module, old in held:
        source = state.ties.get(name, name)
        if source not in state.tensors:
            continue
        if source not in given:
            given[source] = _filled(old, state.tensors[source], fresh=id(old) in used)
            used.add(id(old))
        holder: dict[str, Any] = module._parameters if isinstance(old, nn.Parameter) else module._buffers
        holder[name.rpartition(".")[2]] = given[source]


def _passing(model: nn.Module) -> frozenset[str]:
    return frozenset(
        f"{prefix}.{key}" if prefix else key
        for prefix, module in model.named_modules(remove_duplicate=False)
        for key in module._non_persistent_buffers_set
    )


def _check_names(have: set[str], state: State, passing: frozenset[str]) -> None:
    stored = {*state.tensors, *state.ties}
    missing = sorted(have - stored - passing)
    surplus = sorted(stored - have - state.passing)
    if missing or surplus:
        lacking = "the weights lack" if missing else "the network has no place for"
        raise SecateursError(f"{lacking} {(missing or surplus)[0]}: they belong to a network that is built otherwise")


def _filled(old: Tensor, stored: Tensor, *, fresh: bool) -> Tensor:
    """The tensor object for a place: a parameter stays the same object where it can, so that who holds it sees it."""
    tensor = stored.to(old.device if old.device.type != "meta" else "cpu")
    if not isinstance(old, nn.Parameter):
        return tensor.clone()
    if fresh or old.is_meta or old.dtype != tensor.dtype:
        return nn.Parameter(tensor.clone(), requires_grad=old.requires_grad)
    old.data = tensor.clone()
    old.grad = None
    return old


# ------------------------------------------------------------------------------------------------------------- plans


def pack_plan(plan: Plan) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Eight units to a byte: group name -> ``uint8``, and group name -> number of units."""
    packed = {name: torch.from_numpy(np.packbits(keep.cpu().numpy())) for name, keep in plan.keep.items()}
    return packed, {name: keep.numel() for name, keep in plan.keep.items()}


def unpack_plan(packed: Mapping[str, Tensor], sizes: Mapping[str, int]) -> Plan:
    """The plan that ``pack_plan`` packed, groups in the order of ``sizes``."""
    keep = {n: torch.from_numpy(np.unpackbits(packed[n].numpy(), count=size)).bool() for n, size in sizes.items()}
    return Plan(keep)


def pack_repairs(repairs: Iterable[Change]) -> list[dict[str, Any]]:
    """As JSON takes them; which tokens stay as bits, token 0 the first one, in hexadecimal."""
    return [_pack_tokens(repair) if isinstance(repair, Tokens) else asdict(repair) for repair in repairs]


def _pack_tokens(tokens: Tokens) -> dict[str, Any]:
    stays = np.isin(np.arange(tokens.size), tokens.kept)
    return {"module": tokens.module, "tokens": np.packbits(stays).tobytes().hex(), "size": tokens.size}


def unpack_repairs(packed: Iterable[Mapping[str, Any]]) -> tuple[Change, ...]:
    """The repairs that ``pack_repairs`` packed."""
    return tuple(_unpack_repair(repair) for repair in packed)


def _unpack_repair(packed: Mapping[str, Any]) -> Change:
    if "returns" in packed:
        return Skip(packed["module"], _unpack_returns(packed["returns"]))
    if "tokens" in packed:
        bits = np.frombuffer(bytes.fromhex(packed["tokens"]), np.uint8)
        stays = np.unpackbits(bits, count=packed["size"]).nonzero()[0]
        return Tokens(packed["module"], tuple(stays.tolist()), packed["size"])
    if "kept" in packed:
        return Listed(packed["module"], tuple(packed["kept"]), packed["size"])
    if "size" in packed:
        return Biased(packed["module"], packed["size"])
    value = packed["value"]
    return Repair(packed["module"], packed["attribute"], value if isinstance(value, int) else tuple(value))


def _unpack_returns(packed: Any) -> Returns:
    if isinstance(packed, Mapping):
        return Argument(packed["name"], packed["position"], packed["zero"])
    return None if packed is None else tuple(map(_unpack_returns, packed))


# ------------------------------------------------------------------------------------------------------------- files


def plain(value: Any) -> Any:
    """Readings, paths, numpy numbers and containers as strict JSON takes them; a number that is not finite is null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [plain(item) for item in value]
        return items if isinstance(value, (list, tuple)) else sorted(items)
    return _scalar(value)


def _scalar(value: Any) -> Any:
    value = (
        value.item()
        if isinstance(value, np.generic) or (isinstance(value, torch.Tensor) and value.numel() == 1)
        else value
    )
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (bool, int, str)) or value is None else str(value)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Metadata) -> None:
    """Write one safetensors file and see it on the disk.

    Args:
        path: Overwritten where it exists.
        tensors: Name -> tensor.
        metadata: Name -> anything JSON takes.

    Raises:
        OSError: It cannot be written; ``errno`` is ENOSPC where the disk is full.
        SecateursError: A tensor is of a kind that safetensors does not hold.
    """
    write_plain(path, tensors, {name: json.dumps(value) for name, value in metadata.items()})


def write_plain(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """``write_tensors`` with the metadata as they are, for files that other programs read."""
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(_unshared(tensors), path, metadata=dict(metadata))
    except SafetensorError as error:  # it says what the operating system said in words, without an errno
        text = str(error)
        raise OSError(ENOSPC if "os error 28" in text or "No space left" in text else 0, text, str(path)) from error
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise SecateursError(f"{path.name}: these weights cannot be stored as safetensors: {error}") from error
    path.chmod(mode)  # safetensors writes a temporary file for its owner alone and renames it
    sync(path)


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that overlap in memory without being tied are written one by one, in row-major order."""
    seen: set[int] = set()
    owned = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        whole = tensor.untyped_storage().nbytes() == tensor.nbytes
        owned[name] = (tensor if whole and storage not in seen else tensor.clone()).contiguous()
        seen.add(storage)
    return owned


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write_tensors`` wrote: the tensors, and the metadata.

    Raises:
        SecateursError: The file is not there, or is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise SecateursError(f"{path} cannot be read ({error}): it was cut short, or is no safetensors file") from error


def cause(error: OSError) -> str:
    """Why a file could not be written, in words."""
    return "the disk is full" if error.errno == ENOSPC else str(error)


def sync(path: Path) -> None:
    """Wait until a file or directory is on the disk, so that a rename after it never shows half a file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
