"""What the tests of the rules share: a network of one expression between layers, and what the trace made of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from secateurs.graph import Graph, trace


class Between(nn.Module):
    """Layers by name, and a forward pass over them."""

    def __init__(self, forward: Callable[[Between, Tensor], Tensor], **layers: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.run = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def traced(forward: Callable[..., Tensor], x: Tensor, **layers: nn.Module | nn.Parameter) -> Graph:
    """The graph of a forward pass over some layers; every operator in it must have a rule."""
    graph = trace(Between(forward, **layers).eval(), (x,))
    assert not graph.unknown, graph.unknown
    return graph


def hidden(forward: Callable[[Tensor], Tensor], size: int = 6, after: int | None = None) -> Graph:
    """An expression between two linear layers: ``b(forward(a(x)))``; ``after`` is the width that b reads."""
    layers = {"a": nn.Linear(4, size), "b": nn.Linear(after or size, 2)}
    return traced(lambda self, x: self.b(forward(self.a(x))), torch.randn(3, 4), **layers)


def free(graph: Graph) -> dict[str, int]:
    """Name -> size of the dims that may shrink."""
    return {name: dim.size for name, dim in graph.dims.items() if dim.frozen is None}


def reason(graph: Graph, name: str) -> str:
    """Why a dim is frozen."""
    return graph.dims[name].frozen or ""
