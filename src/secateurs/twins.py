"""The dense network beside the one that is being settled, so that a weight makes up for what those before it lost.

A twin of every batch goes through the same modules, each of which wears its dense weight for it. Where both stand
before a weight W, the inputs x and x_dense, and the streams s and s_dense that its output is added to, say what it
should give: ``min_W' sum |s + W' x - (s_dense + W x_dense)|^2``. Without a constraint that is
``W' = W + D (G + lambda)^-1`` with ``G = sum x x^T`` and ``D = sum (W (x_dense - x) + s_dense - s) x^T``: what the
weight should come to, and a solver prunes that. (Frantar & Alistarh 2023 take ``D = 0``.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from greenlet import greenlet
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from secateurs.types import Gram

aten = torch.ops.aten
Forwards = Sequence[Callable[[], object]]
DAMPING = 0.01
"""Lambda, as a share of the mean of the diagonal of G."""


class Drift:
    """How far what a weight meets is from what the dense one meets; shared by weights that multiply the same."""

    def __init__(self) -> None:
        self.tokens = 0
        self._inputs: Tensor | None = None
        self._streams: dict[str, Tensor] = {}

    def add(self, x: Tensor, dense: Tensor) -> None:
        """Add tokens of the two: ``(..., i)``; they are left out where they are not the same tokens."""
        if x.shape != dense.shape:
            return
        x = _flat(x)
        self.tokens += len(x)
        self._inputs = _plus(self._inputs, (_flat(dense) - x).T @ x)

    def add_stream(self, name: str, x: Tensor, stream: Tensor, dense: Tensor) -> None:
        """Add tokens of the streams that the output of this weight is added to: ``(..., o)``."""
        if stream.shape == dense.shape:
            self._streams[name] = _plus(self._streams.get(name), (_flat(dense) - _flat(stream)).T @ _flat(x))

    def reorder_(self, order: Tensor) -> None:
        """The features of what the weight meets in another order: ``(i,)``."""
        if self._inputs is not None:
            self._inputs = self._inputs[order][:, order]
        self._streams = {name: stream[:, order] for name, stream in self._streams.items()}

    def made_up_for(self, name: str, weight: Tensor, gram: Gram) -> Tensor:
        """What the weight should come to: ``(o, i)``."""
        if self._inputs is None:
            return weight
        gap = weight @ self._inputs
        if name in self._streams:
            gap += self._streams[name]
        return weight + torch.cholesky_solve(gap.T, gram.once("aim", _factor)).T


class Twins:
    """Batches, and a twin of each.

    Args:
        ours: Each runs the network on one batch, as ``settle_`` takes them.
        theirs: The same for the twins: the dense network's.
        streams: Name of a weight -> a module that is given, before, the stream that the weight's output is added to.

    ``stacks`` are the dense stacks of matrices, by name, that were settled and that twins multiply by.
    """

    def __init__(self, ours: Forwards, theirs: Forwards, streams: Mapping[str, nn.Module]) -> None:
        self.ours, self.theirs, self.streams = ours, theirs, streams
        self.of: dict[greenlet, greenlet] = {}
        self.all: set[greenlet] = set()
        self.stacks: dict[str, Tensor] = {}
        self._dense: dict[nn.Module, tuple[dict[str, Tensor], set[greenlet]]] = {}
        self._worn: dict[nn.Module, dict[str, Tensor]] = {}
        self._passed: dict[greenlet, dict[nn.Module, Tensor]] = {}

    def beside(self, it: greenlet, position: int) -> greenlet:
        """The twin of a batch, not started yet."""
        twin = greenlet(self.theirs[position])
        self.of[it], self.of[twin] = twin, it
        self.all.add(twin)
        return twin

    def keep(self, module: nn.Module) -> None:
        """Remember the weights of a module that is about to be settled, until all twins have passed it."""
        copies = {name: each.detach().clone() for name, each in module.named_parameters(recurse=False)}
        self._dense[module] = (copies, set(self.all))

    def compare(self, name: str, drift: Drift, it: greenlet, x: Tensor, dense: Tensor) -> None:
        """A batch and its twin stand before a weight."""
        drift.add(x, dense)
        witness = self.streams.get(name)
        if witness is not None:
            stream, other = (self._passed.get(each, {}).pop(witness, None) for each in (it, self.of[it]))
            if stream is not None and other is not None and stream.shape[:-1] == x.shape[:-1] == dense.shape[:-1]:
                drift.add_stream(name, x, stream, other)

    @contextmanager
    def met(self, modules: Iterable[nn.Module]) -> Iterator[None]:
        """While the walk goes on: twins find dense weights in these modules, and streams are noted."""
        witnesses = dict.fromkeys(self.streams.values())
        handles = [witness.register_forward_pre_hook(self._note, prepend=True) for witness in witnesses]
        for module in modules:
            handles.append(module.register_forward_pre_hook(self._wear))
            handles.append(module.register_forward_hook(self._put_off, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor):
            self._passed.setdefault(greenlet.getcurrent(), {})[module] = given[0]

    def _wear(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        here = greenlet.getcurrent()
        if here not in self.all or module not in self._dense:
            return
        dense, left = self._dense[module]
        left.discard(here)
        if not left:
            del self._dense[module]
        own = dict(module.named_parameters(recurse=False))
        self._worn[module] = {name: own[name].data for name in dense}
        for name, tensor in dense.items():
            own[name].data = tensor

    def _put_off(self, module: nn.Module, given: Any, output: Any) -> None:
        own = dict(module.named_parameters(recurse=False))
        for name, tensor in self._worn.pop(module, {}).items():
            own[name].data = tensor


def streams(
    weights: Mapping[str, nn.Module], modules: Iterable[nn.Module], forward: Callable[[], object]
) -> dict[str, nn.Module]:
    """Where the stream can be met that the output of a weight is added to, before the weight is.

    Args:
        weights: Name -> the module that multiplies by it.
        modules: All that are looked at.
        forward: Runs the network on one batch.

    Returns:
        Name of a weight -> the module that is given the stream; weights whose output goes elsewhere are left out.
    """
    look = _Sums({module: name for name, module in weights.items()})
    handles = [module.register_forward_pre_hook(look.note) for module in modules]
    handles += [module.register_forward_hook(look.gave) for module in weights.values()]
    try:
        with torch.no_grad(), look:
            forward()
    finally:
        for handle in handles:
            handle.remove()
    once = {name: [it for it in met if look.times[it] == 1] for name, met in look.found.items()}
    return {name: met[0] for name, met in once.items() if met}


class _Sums(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's metaclass hook has no annotations
    """Sees which outputs are added to what a module was given before."""

    def __init__(self, names: Mapping[nn.Module, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names, self.found, self.times = names, dict[str, list[nn.Module]](), Counter[nn.Module]()
        self._given: MutableMapping[Tensor, list[nn.Module]] = WeakIdKeyDictionary()
        self._open: MutableMapping[Tensor, str] = WeakIdKeyDictionary()

    def note(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        self.times[module] += 1
        if given and isinstance(given[0], Tensor):
            self._given.setdefault(given[0], []).append(module)

    def gave(self, module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            self._open[output] = self.names[module]

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (aten.add, aten.add_) and all(isinstance(it, Tensor) for it in args[:2]):
            for output, stream in (args[:2], args[1::-1]):
                if output in self._open and stream in self._given and output.shape == stream.shape:
                    self.found.setdefault(self._open[output], list(self._given[stream]))
        return func(*args, **(kwargs or {}))


def _flat(x: Tensor) -> Tensor:
    return x.detach().reshape(-1, x.shape[-1]).float()


def _factor(matrix: Tensor) -> Tensor:
    """The lower factor of the damped matrix."""
    made = matrix.clone()
    made.diagonal().add_(DAMPING * (float(made.diagonal().mean()) or 1.0))
    factor: Tensor = torch.linalg.cholesky(made)
    return factor


def _plus(total: Tensor | None, more: Tensor) -> Tensor:
    return more if total is None else total.add_(more)
