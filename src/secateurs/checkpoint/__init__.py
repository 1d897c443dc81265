"""Networks on disk that need not fit in memory: read a block at a time, written a block at a time."""

from secateurs.checkpoint.checkpoint import Checkpoint
from secateurs.checkpoint.to_gguf import to_gguf
from secateurs.checkpoint.writer import Writer

__all__ = ["Checkpoint", "Writer", "to_gguf"]
