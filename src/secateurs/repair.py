"""What a physically smaller network needs changed beside its tensors: sizes, skips, shorter lists, tokens, biases.

After tensors shrink, integers kept by modules (``num_heads``, ``groups``, ``normalized_shape``, fields of a config) are
stale. A repair names one of them and its new value; where a whole layer went, a module stands in for it that hands on
what it is given. Both are found by surgery and applied again when an artifact is loaded, so they live below both and
know nothing of graphs.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from secateurs.attention import narrow_
from secateurs.listed import Listed, close_up_
from secateurs.types import Argument, Returns, SecateursError, Skip, name_before
from secateurs.vocabulary import Tokens, shorten_


@dataclass(frozen=True)
class Repair:
    """One attribute of one module and the size it has in the smaller network.

    Args:
        module: Qualified name of the module, ``""`` for the network itself.
        attribute: Its attribute; dotted where the size is held by an object of the module's: ``config.num_heads``.
        value: The new size, or sizes.
    """

    module: str
    attribute: str
    value: int | tuple[int, ...]


@dataclass(frozen=True)
class Biased:
    """A layer that has a bias in the smaller network, and none in the network that it was pruned from.

    Args:
        module: Qualified name of the layer.
        size: Outputs of the layer in the dense network.
    """

    module: str
    size: int


Change: TypeAlias = Repair | Skip | Tokens | Biased | Listed
"""What a smaller network needs changed."""


class Skipped(nn.Module):
    """Stands where a module was that is not run: no parameters, and next to no computing.

    It returns, in the form of the output of the module that was there, arguments as they are or zeros of their shape.
    Plain attributes of that module (numbers, strings), which others may read, are here too.

    Args:
        module: What was there.
        returns: What to return.
    """

    def __init__(self, module: nn.Module, returns: Returns) -> None:
        super().__init__()
        self.returns = returns
        for name, value in vars(module).items():
            if not name.startswith("_") and name not in vars(self) and _is_plain(value):
                setattr(self, name, value)
        self.training = module.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What stands in for the output."""
        return _stand_in(self.returns, args, kwargs)

    def extra_repr(self) -> str:
        """What it returns."""
        return _told(self.returns)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float)


def _stand_in(returns: Returns, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if returns is None:
        return None
    if isinstance(returns, tuple):
        return tuple(_stand_in(item, args, kwargs) for item in returns)
    given = kwargs[returns.name] if returns.name in kwargs else args[returns.position]
    return torch.zeros_like(given) if returns.zero else given


def _told(returns: Returns) -> str:
    if isinstance(returns, tuple):
        return f"({', '.join(map(_told, returns))})"
    if isinstance(returns, Argument):
        return f"zeros like {returns.name}" if returns.zero else returns.name
    return "None"


def skip_(model: nn.Module, repairs: Iterable[Change]) -> None:
    """Put a ``Skipped`` where a module is not run; the other repairs wait until the tensors have their new shapes.

    Args:
        model: Changed in place; what is skipped already stays as it is.
        repairs: Those that are no ``Skip`` are passed over.

    Raises:
        SecateursError: The model has no such module.
    """
    for repair in repairs:
        if isinstance(repair, Skip):
            try:
                module = model.get_submodule(repair.module)
            except AttributeError as error:
                raise _missing(repair.module, error) from error
            if not isinstance(module, Skipped):
                model.set_submodule(repair.module, Skipped(module, repair.returns))


def bias_(model: nn.Module, repairs: Iterable[Change]) -> None:
    """Give layers the biases that they lack, of zeros: the network computes what it did.

    Args:
        model: Changed in place; a layer that has a bias keeps it, and one that is not run gets none.
        repairs: Those that are no ``Biased`` are passed over.
    """
    modules = {name_before(model, name): module for name, module in model.named_modules()}
    for repair in repairs:
        if isinstance(repair, Biased):
            layer = modules.get(repair.module)
            weight = None if layer is None else layer._parameters.get("weight")
            if layer is not None and weight is not None and layer._parameters.get("bias") is None:
                bias = nn.Parameter(weight.detach().new_zeros(repair.size), requires_grad=weight.requires_grad)
                layer.register_parameter("bias", bias)


def prepare_(model: nn.Module, repairs: Iterable[Change]) -> None:
    """Make a network ready for the tensors of a smaller one: skip what is not run, make biases, let lists close up.

    Args:
        model: The dense network, changed in place.
        repairs: Those of sizes and tokens wait until the tensors have their new shapes.

    Raises:
        SecateursError: The model has no such module, or a list has another number of modules.
    """
    repairs = tuple(repairs)
    skip_(model, repairs)
    bias_(model, repairs)
    close_up_(model, repairs)


def apply_repairs_(model: nn.Module, repairs: Iterable[Change]) -> None:
    """Skip what is not run, add biases, let layers that lost tokens speak the old numbers, set the repaired sizes.

    An object on the way of a dotted attribute (a config that many modules share) is copied for its module first, so
    that the others keep theirs. A list stays a list and a tuple a tuple, of the same class. An attention of torch's own
    that lost heads is made one that can do with fewer, which no attribute of it could say.

    Args:
        model: Changed in place.
        repairs: Later ones win.

    Raises:
        SecateursError: The model has no such module or attribute.
    """
    repairs = tuple(repairs)
    prepare_(model, repairs)
    for repair in repairs:
        try:
            if isinstance(repair, Repair):
                _set(model.get_submodule(repair.module), repair.attribute.split("."), repair.value)
            elif isinstance(repair, Tokens):
                shorten_(model.get_submodule(repair.module), repair.kept, repair.size)
        except AttributeError as error:
            parts = (repair.module, repair.attribute if isinstance(repair, Repair) else "")
            raise _missing(".".join(filter(None, parts)), error) from error
    narrow_(model)


def _missing(where: str, error: Exception) -> SecateursError:
    return SecateursError(f"this network has no {where}: it is not the one the repairs were made for ({error})")


CONTAINERS = (dict, OrderedDict, defaultdict, list, set)
"""Modules keep their state in these, hooks among it: one that a pass registers goes with the note that it is there."""


@contextmanager
def left_alone(model: nn.Module) -> Iterator[None]:
    """Put back what modules hold, also inside their dicts and lists: modes, and what a pass keeps for the next one."""
    held = [(module, dict(vars(module))) for module in model.modules()]
    containers = [x for _, values in held for x in values.values() if type(x) in CONTAINERS]
    inside = [(x, x.copy() if x else None) for x in containers]  # most are empty: hooks that nobody registered
    try:
        yield
    finally:
        for module, values in held:
            vars(module).clear()
            vars(module).update(values)
        for container, items in inside:
            if container:
                container.clear()
            if items:
                container.extend(items) if isinstance(container, list) else container.update(items)


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, also of a network that holds what it computed, as torch's older weight norm does."""
    return _copied(model, {})


def twin(model: nn.Module) -> nn.Module:
    """A copy whose parameters lie in the memory of the original's; give them memory of their own with ``part_``."""
    plain = [it for it in model.parameters() if _is_shareable(it)]
    return _copied(model, {id(it): nn.Parameter(it.data, it.requires_grad) for it in plain})


def part_(twin: nn.Module, model: nn.Module) -> None:
    """Give a twin memory of its own wherever it still shares the original's."""
    theirs = {it.untyped_storage().data_ptr() for it in model.parameters() if _is_shareable(it)}
    for it in twin.parameters():
        if _is_shareable(it) and it.untyped_storage().data_ptr() in theirs:
            it.data = it.data.clone()


def _is_shareable(parameter: nn.Parameter) -> bool:
    return type(parameter) is nn.Parameter and parameter.layout is torch.strided


def _copied(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    held = [value for module in model.modules() for value in vars(module).values()]
    computed = {id(it): it.detach().clone() for it in held if isinstance(it, Tensor) and not it.is_leaf}
    no_hooks = [it for it in held if type(it) is OrderedDict and not it]  # ten in every module, slow to copy
    return copy.deepcopy(model, {**computed, **{id(it): type(it)() for it in no_hooks}, **memo})


def _set(holder: Any, path: list[str], value: int | tuple[int, ...]) -> None:
    old = getattr(holder, path[0])
    if len(path) == 1:
        setattr(holder, path[0], _like(old, value))
        return
    inner = old if isinstance(old, nn.Module) else copy.copy(old)
    _set(inner, path[1:], value)
    if inner is not old:
        setattr(holder, path[0], inner)


def _like(old: object, value: int | tuple[int, ...]) -> object:
    if isinstance(value, int):
        return value
    if not isinstance(old, (list, tuple)):
        return tuple(value)
    container: Any = type(old)
    return container(*value) if hasattr(old, "_make") else container(value)  # a named tuple takes field by field
