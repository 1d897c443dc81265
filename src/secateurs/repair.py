"""What Python remembers of sizes, put right: module attributes that a physically smaller network needs changed.

After tensors shrink, integers kept by modules (``num_heads``, ``groups``, ``normalized_shape``, fields of a config) are
stale. A repair names one of them and its new value. It is found by surgery and applied again when an artifact is
loaded, so it lives below both and knows nothing of graphs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from secateurs.attention import narrow_
from secateurs.types import SecateursError


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


def apply_repairs_(model: nn.Module, repairs: Iterable[Repair]) -> None:
    """Set the repaired sizes, in order.

    An object on the way of a dotted attribute (a config that many modules share) is copied for its module first, so
    that the others keep theirs. A list stays a list and a tuple a tuple, of the same class. An attention of torch's own
    that lost heads is made one that can do with fewer, which no attribute of it could say.

    Args:
        model: Changed in place.
        repairs: Later ones win.

    Raises:
        SecateursError: The model has no such module or attribute.
    """
    for repair in repairs:
        try:
            module = model.get_submodule(repair.module)
            _set(module, repair.attribute.split("."), repair.value)
        except AttributeError as error:
            where = ".".join(part for part in (repair.module, repair.attribute) if part)
            raise SecateursError(
                f"this network has no {where}: it is not the one the repairs were made for ({error})"
            ) from error
    narrow_(model)


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, also of a network that holds what it computed, as torch's older weight norm does."""
    held = (value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor))
    return copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in held if not tensor.is_leaf})


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
