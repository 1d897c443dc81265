"""A network on disk, read as little at a time as is asked for: safetensors in a transformers directory, or GGUF."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateurs.checkpoint.fit import Maker, check, check_strange, matched
from secateurs.checkpoint.gguf import Gguf
from secateurs.checkpoint.shards import INDEX, SINGLE, Shards
from secateurs.types import SecateursError

COMPANIONS = (".json", ".txt", ".model", ".jinja", ".tiktoken")
"""Endings of the files beside the weights that belong to a network: config, generation, tokenizer, processor."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A transformers model on disk, of which no more is in memory than what was read and is still held.

    Args:
        path: The directory, or the GGUF file.
        source: The tensors as they are stored.
        model: The network with its parameters on the meta device; other places ask ``empty`` for their own.
        makers: Name in the network -> what reads it, and whatever is made together with it.
        dtypes: Name in the network -> of which type its numbers are stored; float32 from GGUF.
    """

    path: Path
    source: Shards | Gguf
    model: nn.Module
    makers: Mapping[str, Maker]
    dtypes: Mapping[str, torch.dtype]

    @classmethod
    def open(cls, path: str | Path) -> Checkpoint:
        """Read the headers and the config, and match every parameter with what is stored.

        Args:
            path: A transformers directory with safetensors (one file, or shards), a GGUF file, or a directory with one.

        Raises:
            SecateursError: Nothing there that is read; a shard is missing or cut short; a parameter is not stored, or
                in another shape; there are layers that the config does not have.
        """
        path = Path(path)
        source = _source(path)
        model = _empty(_config(path, source), path)
        found = matched(model, source)
        check_strange(model, path, set(source.names) - set(found.strange), found.strange)
        own = _aliased(model, found.makers)
        own |= _computed(model, own)
        check(model, path, own, found.shapes)
        return cls(path, source, model, own, {name: found.dtypes.get(name, torch.float32) for name in own})

    @property
    def config(self) -> Any:
        """The config of the network."""
        return self.model.config

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the weights."""
        return self.source.files

    @property
    def fingerprint(self) -> str:
        """Tells checkpoints apart without reading them whole: by config, headers, and a little of every tensor."""
        config = self.config.to_json_string(use_diff=True)
        return hashlib.sha256(f"{type(self.model).__name__}\n{config}\n{self.source.digest()}".encode()).hexdigest()

    def empty(self, changes: Mapping[str, Any] | None = None) -> nn.Module:
        """The network in evaluation mode: parameters on the meta device, buffers real, tied weights tied.

        Args:
            changes: Fields of the config that are to be other than the checkpoint's.
        """
        told = {**self.config.to_dict(), **(changes or {})}
        return _empty(type(self.config).from_dict(told), self.path, type(self.model))

    def names(self, *prefixes: str) -> tuple[str, ...]:
        """Names of the tensors that can be read, a tied one by its first name.

        Args:
            prefixes: Qualified names of modules or tensors; without any, of the whole network.

        Raises:
            SecateursError: The network has no such module or tensor.
        """
        held = _named(self.model)
        wanted: dict[str, None] = {}
        for prefix in prefixes or ("",):
            found = [first for name, first in held.items() if not prefix or f"{name}.".startswith(f"{prefix}.")]
            if not found and prefix not in dict(self.model.named_modules()):
                raise SecateursError(f"{type(self.model).__name__} has no module or tensor {prefix}")
            wanted.update(dict.fromkeys(name for name in found if name in self.makers))
        return tuple(wanted)

    def read(self, name: str) -> Tensor:
        """One tensor, on the CPU, of the type it is stored in (float32 from GGUF).

        Raises:
            SecateursError: The network has no such tensor, or it cannot be read.
        """
        return self._read((), _named(self.model).get(name, name))[0][1]

    def each(self, *prefixes: str) -> Iterator[tuple[str, Tensor]]:
        """The tensors of ``names``, read as they are asked for; those that are made together come together."""
        done: set[str] = set()
        wanted = self.names(*prefixes)
        for name in wanted:
            if name not in done:
                for made, tensor in self._read(wanted, name):
                    done.add(made)
                    yield made, tensor

    def load_(
        self,
        model: nn.Module,
        *prefixes: str,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Give a part of a network its tensors.

        Args:
            model: From ``empty``; changed in place.
            prefixes: Qualified names of modules or tensors; without any, the whole network.
            dtype: Of floating tensors; None leaves them as stored.
            device: Where they go.

        Raises:
            SecateursError: A tensor cannot be read, or has another shape than the network's.
        """
        for name, tensor in self.each(*prefixes):
            floating = dtype if tensor.is_floating_point() else None
            give_(model, name, tensor.to(device=device, dtype=floating), str(self.path))

    def release_(self, model: nn.Module, *prefixes: str) -> None:
        """Put a part of a network back on the meta device: what it held is freed."""
        parameters = dict(model.named_parameters())
        for name in self.names(*prefixes):
            old = parameters.get(name)
            if old is not None and not old.is_meta:
                give_(model, name, torch.empty_like(old, device="meta"), str(self.path))

    def companions(self) -> tuple[Path, ...]:
        """Files beside the weights that belong to the network: config, generation, tokenizer, processor."""
        directory = self.path if self.path.is_dir() else self.path.parent
        found = sorted(file for file in directory.iterdir() if file.is_file() and file.suffix in COMPANIONS)
        return tuple(file for file in found if not file.name.endswith(".index.json"))

    def _read(self, wanted: tuple[str, ...], name: str) -> list[tuple[str, Tensor]]:
        if name not in self.makers:
            raise SecateursError(f"{self.path} does not hold {name}")
        made = self.makers[name]()
        return [(name, made.pop(name)), *((other, made[other]) for other in made if other in wanted)]


def give_(model: nn.Module, name: str, tensor: Tensor, where: str) -> None:
    """Put a tensor into every place of a network that the one of this name has.

    Args:
        model: Changed in place.
        name: Of a parameter or buffer.
        tensor: The new one.
        where: It comes from, for the message.

    Raises:
        SecateursError: The shapes differ.
    """
    holder, _, key = name.rpartition(".")
    owner = model.get_submodule(holder)
    old: Tensor = getattr(owner, key)
    if old.shape != tensor.shape:
        raise SecateursError(f"{where}: {name} is {tuple(tensor.shape)}, the network has {tuple(old.shape)}")
    is_parameter = isinstance(old, nn.Parameter)
    new = nn.Parameter(tensor, requires_grad=old.requires_grad) if is_parameter else tensor
    for module in model.modules():
        slots: dict[str, Any] = module._parameters if is_parameter else module._buffers
        for slot, held in slots.items():
            if held is old:
                slots[slot] = new


def _named(model: nn.Module) -> dict[str, str]:
    """Every name of a tensor in ``state_dict`` -> its first one."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in model.state_dict(keep_vars=True).items()}


def _aliased(model: nn.Module, makers: Mapping[str, Maker]) -> dict[str, Maker]:
    """Makers by the first name of each tensor; a tied one may be stored under any of its names."""
    out: dict[str, Maker] = {}
    for name, first in _named(model).items():
        if name in makers and (name == first or first not in makers):
            out.setdefault(first, makers[name] if name == first else _renamed(makers[name], name, first))
    return out


def _computed(model: nn.Module, held: Mapping[str, Maker]) -> dict[str, Maker]:
    """Makers of parameters that transformers stores nowhere, since it can compute them: tables of sines."""
    patterns = getattr(model, "_keys_to_ignore_on_load_missing", None) or ()
    names = [name for name, _ in model.named_parameters() if name not in held]
    return {name: partial(_initial, model, name) for name in names if any(re.search(p, name) for p in patterns)}


def _initial(model: Any, name: str) -> dict[str, Tensor]:
    holder, _, key = name.rpartition(".")
    owner = deepcopy(model.get_submodule(holder)).to_empty(device="cpu")
    model._init_weights(owner)
    return {name: getattr(owner, key).detach()}


def _renamed(maker: Maker, name: str, first: str) -> Maker:
    return lambda: {first if made == name else made: tensor for made, tensor in maker().items()}


def _source(path: Path) -> Shards | Gguf:
    if path.is_file():
        return Gguf.of(path)
    if not path.is_dir():
        raise SecateursError(f"{path}: no such directory or file")
    if (path / INDEX).is_file() or (path / SINGLE).is_file():
        return Shards.beside(path)
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return Gguf.of(files[0])
    if files:
        raise SecateursError(f"{path} has {len(files)} GGUF files: name one of them, e.g. {files[0]}")
    raise SecateursError(
        f"{path} has neither {SINGLE} nor {INDEX} nor a GGUF file: save the network with save_pretrained first"
    )


def _config(path: Path, source: Shards | Gguf) -> Any:
    if isinstance(source, Gguf):
        return source.config()
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:
        raise SecateursError(f"{path} has no config that transformers understands: {error}") from error
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        raise SecateursError(f"{path} holds quantised weights: dequantise them before pruning")
    return config


def _empty(config: Any, path: Path, cls: type[nn.Module] | None = None) -> nn.Module:
    """The class of a config, its parameters without memory, its buffers computed."""
    try:
        from accelerate import init_empty_weights
    except ImportError as error:
        raise SecateursError(
            "networks larger than memory are built by the package accelerate: pip install 'secateurs[transformers]'"
        ) from error
    cls = cls or _class(config, path)
    with init_empty_weights(include_buffers=False):
        model = cls(config)
    tie: Callable[[], None] = model.tie_weights  # type: ignore[assignment]
    tie()
    return model.eval()


def _class(config: Any, path: Path) -> type[nn.Module]:
    import transformers
    from transformers.models.auto import modeling_auto

    kind = "SEQ_TO_SEQ_CAUSAL_LM" if getattr(config, "is_encoder_decoder", False) else "CAUSAL_LM"
    usual = getattr(modeling_auto, f"MODEL_FOR_{kind}_MAPPING_NAMES").get(config.model_type)
    name = next(iter(getattr(config, "architectures", None) or ()), usual)
    found: type[nn.Module] | None = getattr(transformers, name, None) if name else None
    if found is None:
        raise SecateursError(f"{path}: {name or config.model_type} is no class of transformers")
    return found
