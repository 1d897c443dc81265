"""The layers of a pruned network beside those of the dense one, on the same data, in order of the forward pass.

A layer is whatever module computes ``x W^T + b`` from its first argument: found by comparing, so transposed weights and
layers of one's own are among them. What it gives is compared where it is read next: a residual stream that came out
wrong before the layer can then be put right by it.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from secateurs.types import Batch, SecateursError, Task

logger = logging.getLogger("secateurs.recoveries")


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


@dataclass
class Sums:
    """What a layer is given, and how far what becomes of it is from the dense network's; summed over positions."""

    number: int = 0
    x: Tensor | float = 0.0
    error: Tensor | float = 0.0
    xx: Tensor | float = 0.0
    error_x: Tensor | float = 0.0
    alike: bool = True

    def add(self, x: Tensor, at: Tensor, wanted: Tensor | None, second: bool) -> None:
        """Add the positions of one batch, unless the networks sent different ones here, as routers do."""
        self.alike = self.alike and wanted is not None and wanted.shape == at.shape
        if wanted is None or not self.alike:
            return
        x, error = x.flatten(0, -2).float(), (wanted.float() - at.float()).flatten(0, -2)
        self.number += len(x)
        self.x, self.error = self.x + x.sum(0), self.error + error.sum(0)
        if second:
            self.xx, self.error_x = self.xx + x.T @ x, self.error_x + error.T @ x


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What the recoveries that follow the dense network's activations have in common.

    Args:
        batches: Batches of the train split that are run, in each stage; fewer where the split is shorter.
        stages: The layers are mended in this many groups, in order of the forward pass, each seeing what the groups
            before it have become. Every stage runs both networks as far as its last layer.

    Raises:
        SecateursError: A field is below 1, there is no dense network, or the train split is empty.
    """

    second: ClassVar[bool] = False

    batches: int = 16
    stages: int = 4

    def __post_init__(self) -> None:
        """Check every field against its range."""
        for name in ("batches", "stages"):
            if getattr(self, name) < 1:
                raise SecateursError(f"{self._name()}: {name} must be at least 1, got {getattr(self, name)}")

    def __call__(
        self, model: nn.Module, masks: Mapping[str, Tensor], task: Task, dense: nn.Module | None = None
    ) -> None:
        """Mend in place; what is masked stays zero, and the dense network is left as it is."""
        if dense is None:
            raise SecateursError(f"{self._name()}: there is no dense network to follow; hand it over")
        batches = list(itertools.islice(task.splits["train"], self.batches))
        if not batches:
            raise SecateursError(f"{self._name()}: the train split of task '{task.name}' is empty; give it a batch")
        with _evaluating(model), _evaluating(dense), torch.no_grad():
            layers = [layer for layer in found(model, dense, task, batches[0]) if self.mends(layer, masks)]
            size = -(-len(layers) // self.stages) if layers else 1
            for first in range(0, len(layers), size):
                logger.info("%s: layer %d of %d", self._name(), first + 1, len(layers))
                stage = layers[first : first + size]
                sums = self._compared(model, dense, stage, task, batches)
                for layer in stage:
                    if sums[layer.name].alike and sums[layer.name].number:
                        self.mend_(layer, sums[layer.name], masks)

    def mends(self, layer: Layer, masks: Mapping[str, Tensor]) -> bool:
        """Whether it changes this layer."""
        raise NotImplementedError

    def mend_(self, layer: Layer, sums: Sums, masks: Mapping[str, Tensor]) -> None:
        """Change it."""
        raise NotImplementedError

    def target(self, layer: Layer) -> str | None:
        """The module whose input is compared; None: the layer's own output is."""
        return None

    def _name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    def _compared(
        self, model: nn.Module, dense: nn.Module, stage: Sequence[Layer], task: Task, batches: Sequence[Batch]
    ) -> dict[str, Sums]:
        places = {layer.name: self.target(layer) for layer in stage}
        sums = {layer.name: Sums() for layer in stage}
        told = time.monotonic()
        for number, batch in enumerate(batches, start=1):
            wanted = {name: at for name, (_, at) in _seen(dense, places, task, batch).items()}
            for name, (x, at) in _seen(model, places, task, batch).items():
                sums[name].add(x, at, wanted.get(name), self.second)
            if time.monotonic() - told > 1:
                told = time.monotonic()
                logger.info("%s: batch %d of %d", self._name(), number, len(batches))
        return sums


class _Enough(Exception):  # noqa: N818  # no error: all that is needed of a pass was seen
    """The rest of a forward pass is not needed."""


def _run(model: nn.Module, task: Task, batch: Batch) -> None:
    with suppress(_Enough):
        task.loss(model, batch)


def _seen(
    model: nn.Module, places: Mapping[str, str | None], task: Task, batch: Batch
) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer -> what it is given, and what it gives, or what is given to the module that stands there for it."""
    given: dict[str, Tensor] = {}
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def note(name: str, at: Tensor) -> None:
        seen[name] = given[name], at
        if len(seen) == len(places):
            raise _Enough

    def after(name: str, place: str | None) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            given[name] = args[0]
            if place is None:
                note(name, out)

        return hook

    def before(name: str) -> Callable[..., None]:
        return lambda module, args: note(name, args[0])

    with ExitStack() as hooks:
        for name, place in places.items():
            hooks.enter_context(_hooked(model.get_submodule(name).register_forward_hook(after(name, place))))
            if place is not None:
                hooks.enter_context(_hooked(model.get_submodule(place).register_forward_pre_hook(before(name))))
        _run(model, task, batch)
    return seen


@contextmanager
def _hooked(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


# -------------------------------------------------------------------------------------------------- finding them


def found(model: nn.Module, dense: nn.Module, task: Task, batch: Batch) -> list[Layer]:
    """The layers that both networks have, with the same outputs and at most as many inputs, as they run on a batch.

    A weight that several modules share is none of them, nor is a module that is run more than once.
    """
    finder = _Finder(model, dense)
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if not next(module.children(), None) and module._parameters:
                stack.enter_context(_hooked(module.register_forward_pre_hook(partial(finder.before, name))))
                stack.enter_context(_hooked(module.register_forward_hook(partial(finder.after, name))))
        _run(model, task, batch)
    return finder.found()


class _Finder:
    """Watches one pass of the pruned network."""

    def __init__(self, model: nn.Module, dense: nn.Module) -> None:
        self._dense = dict(dense.named_modules())
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
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
