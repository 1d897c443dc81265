"""Size: bytes on disk, of an artifact as it lies there, or of the weights as a safetensors file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from secateurs.measures.instruments.tensors import distinct, values
from secateurs.types import Reading, SecateursError, Task


@dataclass(frozen=True)
class Size:
    """Bytes of an artifact, or of the model's state stored as safetensors.

    Args:
        artifact: A directory (all files in it count) or a file; None: the parameters and buffers of the model, each
            stretch of storage once.

    Raises:
        SecateursError: On the call: the artifact does not exist, or is an empty directory.
    """

    artifact: str | None = None
    higher_is_better: ClassVar[bool] = False

    def __call__(self, model: nn.Module, task: Task) -> Reading:
        if self.artifact is None:
            return Reading("size", _as_safetensors(model), "B", "counted", source="safetensors")
        path = Path(self.artifact)
        if not path.exists():
            raise SecateursError(f"there is no artifact {self.artifact!r} whose size could be read")
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        if not files:
            raise SecateursError(f"the artifact {self.artifact!r} is an empty directory")
        return Reading("size", sum(f.stat().st_size for f in files), "B", "counted", source="file system")


def _as_safetensors(model: nn.Module) -> int:
    """Length of the file that safetensors would write, without writing it."""
    from safetensors.torch import save

    names = {id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}
    held: dict[str, Tensor] = {names[id(t)]: t for t in distinct(model.state_dict(keep_vars=True).values())}
    # A sparse tensor is stored as its entries alone would be; views of one storage are written apart.
    return len(save({name: values(t.detach()).contiguous().clone() for name, t in held.items()}))
