"""GGUF files read one tensor at a time: dequantised by the package gguf, named and laid out as transformers does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secateurs.checkpoint.shards import sample
from secateurs.types import SecateursError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Gguf:
    """The tensors of one GGUF file.

    Args:
        file: Which.
        reader: The package's reader of it.
        architecture: As the file names it.
    """

    file: Path
    reader: Any
    architecture: str

    @classmethod
    def of(cls, file: Path) -> Gguf:
        """Read the header of a file.

        Raises:
            SecateursError: It cannot be read, is cut short, is one of several parts, or the package is not installed.
        """
        reader_class, _ = _package()
        try:
            reader = reader_class(file)
            architecture = str(reader.get_field("general.architecture").contents())
        except OSError as error:
            raise SecateursError(f"{file} cannot be read: {error.strerror or error}") from error
        except Exception as error:
            raise SecateursError(f"{file} is no GGUF file, or is cut short ({error})") from error
        if reader.get_field("split.count") is not None and reader.get_field("split.count").contents() > 1:
            raise SecateursError(f"{file} is one part of several: join them with llama-gguf-split --merge first")
        for tensor in reader.tensors:
            if tensor.data_offset + tensor.n_bytes > file.stat().st_size:
                raise SecateursError(f"{file} is cut short: tensor {tensor.name} is not whole")
        return cls(file, reader, architecture)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.file,)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tensors in the file."""
        return tuple(tensor.name for tensor in self.reader.tensors)

    def config(self) -> Any:
        """The config that transformers makes of what the file says about its network.

        Raises:
            SecateursError: transformers does not read this architecture from GGUF.
        """
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self.file.parent, gguf_file=self.file.name, local_files_only=True)
        except (ValueError, KeyError, NotImplementedError) as error:
            raise SecateursError(
                f"{self.file}: transformers does not read {self.architecture} from GGUF: {error}"
            ) from error

    def makers(self, model: Any) -> dict[str, Made]:
        """Name in the network -> what it is made of.

        Args:
            model: The network of ``config()``, on any device.

        Raises:
            SecateursError: transformers has no names for this architecture.
        """
        from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

        processor: Any = TENSOR_PROCESSORS.get(self.architecture, TensorProcessor)  # each changes tensors in its way
        processor = processor(config=model.config.to_dict())
        try:
            names: dict[str, str] = get_gguf_hf_weights_map(model, processor)
        except NotImplementedError as error:
            raise SecateursError(f"{self.file}: {error}") from error
        sources: dict[str, list[Any]] = {}
        for tensor in self.reader.tensors:
            target = names.get(tensor.name) or names.get(tensor.name.removesuffix(".weight"))
            if target is not None:
                sources.setdefault(target, []).append(tensor)
        return {target: Made(self, processor, names, target, tuple(found)) for target, found in sources.items()}

    def dequantised(self, tensor: Any) -> Array:
        """One tensor as float32, without leaving the file mapped into memory.

        Raises:
            SecateursError: It is cut short, or of a type that the package does not dequantise.
        """
        _, dequantise = _package()
        with _told(f"{self.file}: tensor {tensor.name} cannot be read as {tensor.tensor_type.name}"):
            shape, dtype = tensor.data.shape, tensor.data.dtype
            raw = np.fromfile(self.file, dtype, tensor.data.size, offset=tensor.data_offset).reshape(shape)
            values: Array = dequantise(raw, tensor.tensor_type)
        return values

    def digest(self) -> str:
        """Tells files apart: by every name, type and shape, and 64 bytes from the middle of every tensor."""
        told = hashlib.sha256()
        for tensor in self.reader.tensors:
            told.update(f"{tensor.name} {tensor.tensor_type.name} {tuple(tensor.shape)}\n".encode())
            told.update(sample(self.file, int(tensor.data_offset), int(tensor.data_offset + tensor.n_bytes)))
        return told.hexdigest()


@dataclass(frozen=True, eq=False)
class Made:
    """One tensor of the network, and the tensor of the file that it is made of, or the several (experts in one).

    Args:
        source: The file.
        processor: What transformers changes in the tensors of this architecture.
        names: Name in the file -> name in the network.
        target: Its own name in the network.
        tensors: Of the file.
    """

    source: Gguf
    processor: Any
    names: Mapping[str, str]
    target: str
    tensors: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """As the file has it, outermost axis first."""
        shapes = [tuple(map(int, reversed(tensor.shape))) for tensor in self.tensors]
        return shapes[0] if len(shapes) == 1 else (len(shapes), *shapes[0])

    def __call__(self) -> dict[str, Tensor]:
        # a copy, in memory of torch: a network in memory that is aligned otherwise computes other bits
        return {self.target: torch.tensor(self.laid_out(map(self.source.dequantised, self.tensors)))}

    def laid_out(self, values: Iterable[Array]) -> Array:
        """The tensor as the network has it, from the values of ``tensors`` as the file has them."""
        parsed: dict[str, dict[str, Tensor]] = {"tensors": {}}
        out: Array | None = None
        for tensor, weights in zip(self.tensors, values, strict=True):
            done = self.processor.process(
                weights=weights, name=tensor.name, tensor_key_mapping=self.names, parsed_parameters=parsed
            )
            out = done.weights if done.name is not None else out
        if out is None:  # the processor put it together itself
            (together,) = parsed["tensors"].values()
            out = together.numpy()
        return out


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise SecateursError(f"{what}: {error}") from error


def _package() -> tuple[Any, Any]:
    try:
        from gguf import GGUFReader, dequantize
    except ImportError as error:
        raise SecateursError("GGUF files are read by the package gguf: pip install 'secateurs[gguf]'") from error
    return GGUFReader, dequantize
