"""A pruned network beside the dense one, on the same data: layers are mended in order of the forward pass.

What a layer gives is compared where it is read next: a residual stream that came out wrong before the layer can then be
put right by it.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from greenlet import getcurrent, greenlet
from torch import Tensor, nn

from secateurs.recoveries._evaluating import evaluating
from secateurs.recoveries._layers import Layer, found, hooked
from secateurs.types import Batch, SecateursError, Task, name_before

logger = logging.getLogger("secateurs.recoveries")


@dataclass
class Sums:
    """What a layer is given, and how far what becomes of it is from the dense network's; summed over positions."""

    number: int = 0
    x: Tensor | float = 0.0
    error: Tensor | float = 0.0
    xx: Tensor | float = 0.0
    error_x: Tensor | float = 0.0

    def add(self, x: Tensor, error: Tensor, second: bool) -> None:
        """Add the positions of one batch: ``(..., inputs)`` and ``(..., outputs)``."""
        x, error = x.flatten(0, -2).float(), error.flatten(0, -2).float()
        self.number += len(x)
        self.x, self.error = self.x + x.sum(0), self.error + error.sum(0)
        if second:
            self.xx, self.error_x = self.xx + x.T @ x, self.error_x + error.T @ x


Change = tuple[Tensor | None, Tensor | None]
"""What is added to the weight, ``(outputs, inputs)``, and to the bias of a layer."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What the recoveries that follow the dense network's activations have in common.

    All batches go through both networks side by side and stop where a layer is compared; when the last one has arrived
    the layer is mended, and all go on with what it gives now, or, where they are not to drift apart, with what the
    dense one gives. One pass of each network in all.

    Args:
        batches: Batches of the train split that are run; fewer where the split is shorter.

    Raises:
        SecateursError: A field is below 1, there is no dense network, or the train split is empty.
    """

    second: ClassVar[bool] = False
    drifts: ClassVar[bool] = True
    """Whether layers are given what was made of the layers before them; else what the dense ones are given."""

    batches: int = 16

    def __post_init__(self) -> None:
        """Check the field."""
        if self.batches < 1:
            raise SecateursError(f"{self._name()}: batches must be at least 1, got {self.batches}")

    def __call__(
        self, model: nn.Module, masks: Mapping[str, Tensor], task: Task, dense: nn.Module | None = None
    ) -> None:
        """Mend in place; what is masked stays zero, and the dense network is left as it is."""
        if dense is None:
            raise SecateursError(f"{self._name()}: there is no dense network to follow; hand it over")
        batches = list(itertools.islice(task.splits["train"], self.batches))
        if not batches:
            raise SecateursError(f"{self._name()}: the train split of task '{task.name}' is empty; give it a batch")
        with evaluating(model), evaluating(dense), torch.no_grad():
            layers = {it.name: it for it in found(model, dense, task, batches[0]) if self.mends(it, masks)}
            places = {layer.name: self.target(layer) for layer in layers.values()}
            before = {name: name_before(model, name) for name, _ in model.named_modules()}
            with _stopping(model, places), _stopping(dense, places, before):
                pairs = [(Walk(model, task, batch), Walk(dense, task, batch)) for batch in batches] if layers else []
                self._walk(layers, pairs, masks)

    def mends(self, layer: Layer, masks: Mapping[str, Tensor]) -> bool:
        """Whether it changes this layer."""
        raise NotImplementedError

    def change(self, layer: Layer, sums: Sums, masks: Mapping[str, Tensor]) -> Change:
        """What is to be added to it."""
        raise NotImplementedError

    def target(self, layer: Layer) -> str | None:
        """The module whose input is compared; None: the layer's own output is."""
        return None

    def _name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    def _walk(
        self, layers: Mapping[str, Layer], pairs: Sequence[tuple[Walk, Walk]], masks: Mapping[str, Tensor]
    ) -> None:
        told, done = time.monotonic(), 0
        while name := next((walk.name for walk, _ in pairs if walk.name), ""):
            here = [(walk, wanted) for walk, wanted in pairs if walk.name == name]
            for _, wanted in here:
                while wanted.name not in (name, ""):
                    wanted.on()
            self._mend_(layers[name], here, masks)
            for walk in (walk for both in here for walk in both):
                walk.on()
            done += 1
            if time.monotonic() - told > 1:
                told = time.monotonic()
                logger.info("%s: layer %d of %d", self._name(), done, len(layers))

    def _mend_(self, layer: Layer, pairs: Sequence[tuple[Walk, Walk]], masks: Mapping[str, Tensor]) -> None:
        """Mend a layer, and what it gave; not one to which the networks sent different positions, as routers do."""
        if any(wanted.name != walk.name or wanted.at.shape != walk.at.shape for walk, wanted in pairs):
            return
        sums = Sums()
        for walk, wanted in pairs:
            sums.add(walk.x, wanted.at.float() - walk.at.float(), self.second)
        weight, bias = self.change(layer, sums, masks)
        if weight is not None:
            layer.weight.add_(weight.to(layer.weight))
        if bias is not None and layer.bias is not None:
            layer.bias.add_(bias.to(layer.bias))
        for walk, wanted in pairs:
            if not self.drifts:
                walk.at.copy_(wanted.at)
                continue
            if weight is not None:
                walk.at.add_((walk.x.float() @ weight.T.float()).to(walk.at))
            if bias is not None:
                walk.at.add_(bias.to(walk.at))


# ------------------------------------------------------------------------------------------------------ passes


class _Enough(Exception):  # noqa: N818  # no error: all that is needed of a pass was seen
    """The rest of a forward pass is not needed."""


def _run(model: nn.Module, task: Task, batch: Batch) -> None:
    with suppress(_Enough):
        task.loss(model, batch)


class Walk(greenlet):
    """One batch on its way through a network; it stops at every place that the hooks of ``_stopping`` are at.

    Attributes:
        name: The layer that is compared where it stands; empty at the end.
        x: What that layer was given.
        at: What has become of its output.
    """

    def __init__(self, model: nn.Module, task: Task, batch: Batch) -> None:
        super().__init__(partial(_run, model, task, batch))
        self.name, self.x, self.at = "", torch.empty(0), torch.empty(0)
        self._given: dict[str, Tensor] = {}
        self.on()

    def on(self) -> None:
        """Go to the next place."""
        self.name = ""
        if not self.dead:
            self.switch()

    def take(self, name: str, x: Tensor) -> None:
        """Note what a layer is given; called from the pass."""
        self._given[name] = x

    def stop(self, name: str, at: Tensor) -> None:
        """Wait until it is sent on; called from the pass."""
        if name in self._given and self.parent is not None:
            self.name, self.x, self.at = name, self._given.pop(name), at
            self.parent.switch()


@contextmanager
def _stopping(
    model: nn.Module, places: Mapping[str, str | None], called: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Hooks at which walks stop: where a layer's output is, or before the module that stands there for it.

    ``called`` says what modules are called in this network, where that is not as in ``places``.
    """
    called = called or {}

    def walk() -> Walk:
        mine = getcurrent()
        assert isinstance(mine, Walk)  # nobody else runs the networks meanwhile
        return mine

    def given(name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        walk().take(name, args[0])

    def gave(name: str, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        walk().stop(name, out)

    def read(name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        walk().stop(name, args[0])

    with ExitStack() as hooks:
        for name, place in places.items():
            layer = model.get_submodule(called.get(name, name))
            hooks.enter_context(hooked(layer.register_forward_pre_hook(partial(given, name))))
            if place is None:
                hooks.enter_context(hooked(layer.register_forward_hook(partial(gave, name))))
            else:
                reader = model.get_submodule(called.get(place, place))
                hooks.enter_context(hooked(reader.register_forward_pre_hook(partial(read, name))))
        yield
