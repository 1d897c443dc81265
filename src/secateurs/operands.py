"""Which weights multiply what enters their module, and nothing else: found out by looking on at one forward pass."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from secateurs.loops import loop_of
from secateurs.stacks import watched
from secateurs.types import SecateursError, few

logger = logging.getLogger("secateurs.operands")

aten = torch.ops.aten

Holder = tuple[nn.Module, nn.Parameter]
"""A weight, and the module that holds it."""


def plain(weights: Mapping[str, Holder], forward: Callable[[], object]) -> dict[str, nn.Module]:
    """The modules that multiply their first input, along its last axis, by nothing but these weights.

    Or hold a stack of matrices, each of which is multiplied by tokens of its own, all at once or one after the other.
    Weights that are met in another way are left out, and told in the log: convolutions, a weight used twice. One that
    this batch does not meet, as those of an expert that no token is sent to, is as its like is.

    Args:
        weights: Name -> the module that holds it, and the parameter.
        forward: Runs the network on one batch; found out by looking on.

    Raises:
        SecateursError: Most of what these weights hold would be left out.
    """
    inputs: dict[nn.Module, Tensor] = {}

    def meet(module: nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor):
            inputs.setdefault(module, given[0])

    seen, stacked = _Operands(parameter for _, parameter in weights.values()), Counter[str]()
    linear = _Linear(seen)
    stacks = {name: module for name, (module, parameter) in weights.items() if parameter.dim() == 3}
    watch = watched(stacks, lambda name, x, ends: stacked.update([name]))
    with torch.no_grad(), before({module for module, _ in weights.values()}, meet), seen, linear, watch:
        forward()

    def is_plain(name: str, module: nn.Module, parameter: nn.Parameter) -> bool:
        others = seen.others[parameter.data_ptr()]
        if name in stacks:
            return len(others) == stacked[name] == 1
        return module in inputs and _is(inputs[module], others)

    met = {name: module for name, (module, parameter) in weights.items() if is_plain(name, module, parameter)}
    met |= _looped({name: it for name, it in weights.items() if name in stacks}, met, forward)
    kinds = {(type(module), name.rpartition(".")[2]) for name, module in met.items()}

    def is_left_out(name: str, module: nn.Module, parameter: nn.Parameter) -> bool:
        unmet = name not in stacks and not seen.others[parameter.data_ptr()]
        return unmet and (type(module), name.rpartition(".")[2]) in kinds

    found = {name: module for name, (module, it) in weights.items() if name in met or is_left_out(name, module, it)}
    entries = {name: parameter.numel() for name, (_, parameter) in weights.items()}
    left = [name for name in weights if name not in found]
    if sum(entries[name] for name in left) * 2 > sum(entries.values()):
        raise SecateursError(
            f"{few(left)} does not multiply what enters its module, and that alone, so it cannot be settled in one "
            "pass; keep it out of the structure, or leave out `sequential`"
        )
    if left:
        logger.warning("%s stays dense: it does not multiply what enters its module, and that alone", few(left))
    return found


def _looped(
    stacks: Mapping[str, Holder], met: Mapping[str, nn.Module], forward: Callable[[], object]
) -> dict[str, nn.Module]:
    """The stacks of modules that run once, and multiply their matrices one after the other, and by no other weight."""
    held: dict[nn.Module, dict[str, Tensor]] = {}
    for name, (module, parameter) in stacks.items():
        held.setdefault(module, {})[name] = parameter
    held = {module: own for module, own in held.items() if not {*module.modules()} & {*met.values()}}
    runs, found = Counter[nn.Module](), dict[str, nn.Module]()

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        runs[module] += 1
        if runs[module] == 1 and loop_of(module, args, kwargs, held[module]):
            found.update(dict.fromkeys(held[module], module))

    if held:
        with torch.no_grad(), before(held, look, with_kwargs=True):
            forward()
    return {name: module for name, module in found.items() if runs[module] == 1}


def single(weights: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Those of these weights that are no stacks of matrices."""

    def is_stack(name: str, module: nn.Module) -> bool:
        held = module._parameters.get(name.rpartition(".")[2])
        return held is not None and held.dim() == 3

    return {name: module for name, module in weights.items() if not is_stack(name, module)}


def _is(x: Tensor, operands: Sequence[Tensor]) -> bool:
    """Whether there is one operand alone, and it is this tensor, or it flattened to tokens x features."""
    if len(operands) != 1:
        return False
    (it,) = operands
    return it is x or (tuple(it.shape) == (x[..., 0].numel(), x.shape[-1]) and it.data_ptr() == x.data_ptr())


def holders(network: nn.Module, names: Iterable[str]) -> dict[str, Holder]:
    """Weights by their names: the module that holds each, and the parameter."""
    return {name: (network.get_submodule(name.rpartition(".")[0]), network.get_parameter(name)) for name in names}


@contextmanager
def before(modules: Any, meet: Callable[..., Any], with_kwargs: bool = False) -> Iterator[None]:
    """While open, this is called before each of these modules runs, with the module and its arguments."""
    handles = [module.register_forward_pre_hook(meet, with_kwargs=with_kwargs) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Operands(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's metaclass hook has no annotations
    """For every parameter, by its address, what it meets in a product; itself where another operator reads it."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.others: dict[int, list[Tensor]] = {parameter.data_ptr(): [] for parameter in parameters}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        left, right = args[-2:] if packet in (aten.mm, aten.addmm) else (None, None)
        for operand in (it for it in args if isinstance(it, Tensor) and it.data_ptr() in self.others):
            if not func.is_view:
                self.others[operand.data_ptr()].append(left if operand is right and left is not None else operand)
        return func(*args, **(kwargs or {}))


class _Linear(TorchFunctionMode):
    """Notes what ``linear`` multiplies before it is laid out anew, as inputs that are not contiguous are."""

    def __init__(self, seen: _Operands) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        met = self.seen.others.get(args[1].data_ptr()) if func is functional.linear and len(args) > 1 else None
        if met is None:
            return func(*args, **(kwargs or {}))
        number = len(met)
        out = func(*args, **(kwargs or {}))
        met[number:] = [args[0]]
        return out
