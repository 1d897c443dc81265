"""Parts of a checkpoint read one ahead: while one is worked on elsewhere, a thread reads the next."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType

import torch
from torch import Tensor, nn

from secateurs.checkpoint.checkpoint import Checkpoint, give_


class Ahead:
    """Gives a network the parts of a checkpoint. Two of them are in this machine's memory at most.

    Args:
        source: What to read.
        parts: In the order in which they are asked for, as a rule; one that comes out of turn is read then.
        device: Where they go.
    """

    def __init__(self, source: Checkpoint, parts: Sequence[str], device: torch.device | str) -> None:
        self._source, self._device = source, device
        self._after = dict(pairwise(parts))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="secateurs-reads")
        self._next: tuple[str, Future[dict[str, Tensor]]] | None = None

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._next = None
        self._pool.shutdown(cancel_futures=True)

    def load_(self, model: nn.Module, part: str) -> None:
        """Give a network the tensors of one part, and begin to read the next.

        Args:
            model: From the checkpoint's ``empty``; changed in place.
            part: One of the parts.

        Raises:
            SecateursError: As ``Checkpoint.load_``.
        """
        name, coming = self._next or ("", None)
        read = coming.result() if coming is not None and name == part else dict(self._source.each(part))
        following = self._after.get(part)
        self._next = None if following is None else (following, self._pool.submit(self._read, following))
        for name in list(read):
            give_(model, name, read.pop(name).to(self._device), str(self._source.path))

    def _read(self, part: str) -> dict[str, Tensor]:
        return dict(self._source.each(part))
