"""A network larger than memory that runs as a whole: each block is read as it is run, and dropped when it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from secateurs.checkpoint.checkpoint import Checkpoint


@contextmanager
def in_turn(source: Checkpoint, network: nn.Module, blocks: Sequence[str], rest: Sequence[str]) -> Iterator[None]:
    """While open, a network on the meta device has weights where it runs; its parameters stay the same tensors.

    Args:
        source: What they are read from, to the CPU.
        network: From ``source.empty()``; afterwards it is as it was.
        blocks: Names of modules.
        rest: Names of the tensors that lie in none of them; they are there all the while.

    Raises:
        SecateursError: A tensor cannot be read.
    """
    slots: list[dict[str, Any]] = [it for module in network.modules() for it in (module._parameters, module._buffers)]
    before = [(values, name, x) for values in slots for name, x in values.items() if x is not None and x.is_meta]
    shells = {id(x): _shell(x) for _, _, x in before}  # a tied parameter stays one
    for values, name, x in before:
        values[name] = shells[id(x)]
    tensors: dict[str, Tensor] = {**dict(network.named_buffers()), **dict(network.named_parameters())}

    def fill(*prefixes: str) -> None:
        with _disable_current_modes():  # whoever looks on sees the network alone
            for name, tensor in source.each(*prefixes):
                tensors[name].data = tensor

    def drop(*prefixes: str) -> None:
        with _disable_current_modes():
            for name in source.names(*prefixes):
                if isinstance(tensors[name], nn.Parameter):
                    tensors[name].data = _shell(tensors[name]).data

    def hooks(block: str) -> Iterator[Any]:
        module = network.get_submodule(block)
        yield module.register_forward_pre_hook(lambda *_: fill(block), prepend=True)
        yield module.register_forward_hook(lambda *_: drop(block), always_call=True)

    handles = [handle for block in blocks for handle in hooks(block)]
    try:
        fill(*rest)
        yield
    finally:
        for handle in handles:
            handle.remove()
        for values, name, x in before:
            values[name] = x


def _shell(tensor: Tensor) -> Tensor:
    """One number, seen as all of them."""
    zeros = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
    return nn.Parameter(zeros, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else zeros
