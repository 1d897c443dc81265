"""The layers of a pruned network that stand in the dense one too, and where what they give is read.

A layer is whatever module computes ``x W^T + b`` from its first argument: found by comparing, so transposed weights and
layers of one's own are among them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateurs.types import Batch, Task, name_before


@dataclass(frozen=True)
class Layer:
    """A layer of the pruned network that stands in the dense one too, with the same outputs.

    Args:
        name: Qualified name.
        module: Of the pruned network.
        transposed: Whether its weight is ``(inputs, outputs)``.
        reader: The module that next reads the stream that the layer's output is added to; None where it is added to
            none.
        narrowed: Whether it has lost inputs.
    """

    name: str
    module: nn.Module
    transposed: bool
    reader: str | None
    narrowed: bool

    @property
    def weight(self) -> Tensor:
        """``(outputs, inputs)``; a view."""
        weight: Tensor = self.module.get_parameter("weight").data
        return weight.T if self.transposed else weight

    @property
    def bias(self) -> Tensor | None:
        """``(outputs,)``; a view."""
        bias = self.module._parameters.get("bias")
        return None if bias is None else bias.data


def found(model: nn.Module, dense: nn.Module, task: Task, batch: Batch) -> list[Layer]:
    """The layers that both networks have, with the same outputs and at most as many inputs, as they run on a batch.

    A weight that several modules share is none of them, nor is a module that is run more than once.
    """
    finder = _Finder(model, dense)
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if not next(module.children(), None) and module._parameters:
                stack.enter_context(hooked(module.register_forward_pre_hook(partial(finder.before, name))))
                stack.enter_context(hooked(module.register_forward_hook(partial(finder.after, name))))
        task.loss(model, batch)
    return finder.found()


class _Finder:
    """Watches one pass of the pruned network."""

    def __init__(self, model: nn.Module, dense: nn.Module) -> None:
        modules = dict(dense.named_modules())
        before = {name: name_before(model, name) for name, _ in model.named_modules()}
        self._dense = {name: modules[there] for name, there in before.items() if there in modules}
        self._owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
        self._runs: Counter[str] = Counter()
        self._layers: dict[str, Layer] = {}
        self._given: deque[Tensor] = deque(maxlen=16)
        self._unread: dict[str, Tensor] = {}

    def found(self) -> list[Layer]:
        """In the order in which they run."""
        once = [layer for layer in self._layers.values() if self._runs[layer.name] == 1]
        return [layer if self._runs[layer.reader or ""] == 1 else replace(layer, reader=None) for layer in once]

    def before(self, name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        """What an earlier layer gave, and what was there before it, may have become this."""
        self._runs[name] += 1
        x = args[0] if args else None
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return
        for earlier, y in list(self._unread.items()):
            if y.shape == x.shape and name in self._dense:
                del self._unread[earlier]
                if any(stream.shape == x.shape and _same(stream + y, x) for stream in self._given):
                    self._layers[earlier] = replace(self._layers[earlier], reader=name)
        self._given.append(x)

    def after(self, name: str, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        """It may be a layer."""
        weight, other = module._parameters.get("weight"), self._dense.get(name)
        if other is None or self._owners[id(weight)] > 1 or (transposed := _turned(module, args, out)) is None:
            return
        mine, dense = module.get_parameter("weight").shape, other.get_parameter("weight").shape
        outputs, inputs = (1, 0) if transposed else (0, 1)
        if mine[outputs] == dense[outputs] and mine[inputs] <= dense[inputs]:
            self._unread[name] = out
            self._layers[name] = Layer(name, module, transposed, None, mine[inputs] < dense[inputs])


def _turned(module: nn.Module, args: tuple[Any, ...], y: Any) -> bool | None:
    """Whether its weight is transposed; None where it does not multiply its only argument by it."""
    weight, bias = module._parameters.get("weight"), module._parameters.get("bias")
    if weight is None or weight.dim() != 2 or len(args) != 1 or not isinstance(y, Tensor):
        return None
    x = args[0]
    if not isinstance(x, Tensor) or x.dim() < 2 or x.dtype != y.dtype or x.shape[:-1] != y.shape[:-1]:
        return None
    few, got = x.flatten(0, -2)[:4], y.flatten(0, -2)[:4]
    for transposed, w in ((False, weight.T), (True, weight)):
        if w.shape == (x.shape[-1], y.shape[-1]):
            product = few @ w
            if _same(product if bias is None else product + bias, got):
                return transposed
    return None


def _same(a: Tensor, b: Tensor) -> bool:
    near = 1e-4 if b.dtype in (torch.float32, torch.float64) else 3e-2
    return bool((a - b).abs().max() <= near * b.abs().max().clamp_min(1e-12))


@contextmanager
def hooked(handle: Any) -> Iterator[None]:
    """A hook that is gone at the end."""
    try:
        yield
    finally:
        handle.remove()
