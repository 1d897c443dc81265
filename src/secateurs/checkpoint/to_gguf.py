"""A network of unchanged shapes as GGUF, after the GGUF file of the network that it was pruned from.

All that is not weights (sizes, tokenizer, chat template) is taken from that file as it stands. How its tensors relate
to the network's is what transformers knows for reading; it is turned round here by reading numbers of which each is its
own position: where they end up says where a weight has to go.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from secateurs.archive import cause, sync
from secateurs.checkpoint.checkpoint import Checkpoint
from secateurs.checkpoint.gguf import Array, Gguf, Made
from secateurs.types import SecateursError

TYPES = ("F32", "F16", "BF16", "Q8_0")
"""Types in which a zero stays a zero."""


def to_gguf(source: str | Path, template: str | Path, file: str | Path, dtype: str = "F16") -> None:
    """Write a network as one GGUF file, a tensor at a time.

    Args:
        source: The transformers directory of the network.
        template: A GGUF file of a network with the same config and tokenizer: the one it was pruned from.
        file: What to make; must not exist.
        dtype: Of matrices: ``F32``, ``F16``, ``BF16`` or ``Q8_0`` (``F16`` where a row is no multiple of 32); vectors
            are float32.

    Raises:
        SecateursError: The file exists, the disk is full, the networks differ in a shape or a tensor, or the
            architecture's tensors do not relate to the network's by position.
    """
    file = Path(file)
    if dtype not in TYPES:
        raise SecateursError(f"{dtype}: choose one of {', '.join(TYPES)}, in which a zero stays a zero")
    if file.exists():
        raise SecateursError(f"{file} exists: give a file that does not, or remove it")
    checkpoint = Checkpoint.open(source)
    pattern = Gguf.of(Path(template))
    made = pattern.makers(checkpoint.model)
    _check(checkpoint, pattern, made)
    aside = file.with_name(f"{file.name}.partial")
    try:
        _write(aside, checkpoint, pattern, made, dtype)
        sync(aside)
        os.replace(aside, file)
        sync(file.parent)
    except OSError as error:
        raise SecateursError(f"{file} was not written, {cause(error)}") from error
    finally:
        aside.unlink(missing_ok=True)


def _check(checkpoint: Checkpoint, pattern: Gguf, made: Mapping[str, Made]) -> None:
    known = {tensor.name for one in made.values() for tensor in one.tensors}
    lost = [tensor.name for tensor in pattern.reader.tensors if tensor.name not in known]
    if lost:
        raise SecateursError(f"{pattern.file}: tensor {lost[0]} has no place in {type(checkpoint.model).__name__}")
    missing = [name for name in checkpoint.names() if name not in made]
    if missing:
        raise SecateursError(f"{pattern.file} has no tensor for {missing[0]} of {checkpoint.path}")
    shapes = {name: tuple(parameter.shape) for name, parameter in checkpoint.model.named_parameters()}
    for name, one in made.items():
        probes = [np.broadcast_to(np.float32(0), _shape(tensor)) for tensor in one.tensors]
        shape = one.laid_out(probes).shape
        if shapes.get(name, shape) != shape:
            raise SecateursError(
                f"{name} is {shapes[name]}, but {shape} in {pattern.file}: only a network of unchanged shapes is "
                "written after it"
            )


def _write(path: Path, checkpoint: Checkpoint, pattern: Gguf, made: Mapping[str, Made], dtype: str) -> None:
    from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter, LlamaFileType, quant_shape_to_byte_shape, quantize

    kinds = {tensor.name: GGMLQuantizationType[_kind(tensor, dtype)] for tensor in pattern.reader.tensors}
    with closing(GGUFWriter(path, pattern.architecture)) as writer:
        for key, field in pattern.reader.fields.items():
            if not key.startswith("GGUF.") and key not in {"general.architecture", "general.file_type"}:
                inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
                writer.add_key_value(key, field.contents(), field.types[0], inner)
        writer.add_file_type(LlamaFileType["ALL_F32" if dtype == "F32" else f"MOSTLY_{dtype}"])
        for tensor in (tensor for one in made.values() for tensor in one.tensors):
            shape = quant_shape_to_byte_shape(_shape(tensor), kinds[tensor.name])
            writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), int(np.prod(shape)), kinds[tensor.name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, one in made.items():
            for tensor, values in _as_in_file(checkpoint, name, one):
                writer.write_tensor_data(np.ascontiguousarray(quantize(values, kinds[tensor.name])).view(np.uint8))


def _kind(tensor: Any, dtype: str) -> str:
    shape = _shape(tensor)
    if len(shape) < 2:
        return "F32"
    return "F16" if dtype == "Q8_0" and shape[-1] % 32 else dtype


def _shape(tensor: Any) -> tuple[int, ...]:
    """As numpy has it: the file counts from the innermost dim."""
    return tuple(int(size) for size in reversed(tensor.shape))


def _as_in_file(checkpoint: Checkpoint, name: str, made: Made) -> Iterator[tuple[Any, Array]]:
    """A tensor of the network as the tensors of the file that it is made of."""
    values: Array = checkpoint.read(name).float().numpy()
    shapes = [_shape(tensor) for tensor in made.tensors]
    probe = np.broadcast_to(np.float32(0), shapes[0])
    if len(shapes) == 1 and made.laid_out([probe]) is probe:
        yield made.tensors[0], values
        return
    sizes = [int(np.prod(shape)) for shape in shapes]
    starts = np.cumsum([0, *sizes])
    with np.errstate(all="ignore"):
        offset = made.laid_out([np.zeros(shape) for shape in shapes])
        numbers = [start + np.arange(size, dtype=np.float64) for start, size in zip(starts, sizes, strict=False)]
        places = made.laid_out([number.reshape(shape) for number, shape in zip(numbers, shapes, strict=True)]) - offset
    if not np.array_equal(np.sort(places, axis=None), np.arange(starts[-1])):
        raise SecateursError(
            f"{name} is not a rearrangement of what {made.source.file} has: write this architecture with the converter "
            "of llama.cpp"
        )
    flat = np.empty(int(starts[-1]), np.float32)
    flat[places.astype(np.int64).reshape(-1)] = (values - offset).reshape(-1)
    for tensor, shape, start, size in zip(made.tensors, shapes, starts, sizes, strict=False):
        yield tensor, flat[start : start + size].reshape(shape)
