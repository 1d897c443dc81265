"""Like modules in a list, such as the experts of a mixture: some go, and those that stay close up.

Python picks such modules by number, so the list gets shorter, and its modules get new numbers and with them new names.
A list that closed up knows what its modules were called in the dense network (``secateurs.types.name_before``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from secateurs.types import SecateursError, name_before


@dataclass(frozen=True)
class Listed:
    """A list of modules that got shorter.

    Args:
        module: Qualified name of the list in the dense network.
        kept: Numbers of the modules that stay, ascending.
        size: How many there were.
    """

    module: str
    kept: tuple[int, ...]
    size: int


def close_up_(model: nn.Module, changes: Iterable[object]) -> None:
    """Take modules out of lists, and let those that stay take the first of the names that they had together.

    Args:
        model: Changed in place; a list that has closed up already stays as it is, and one that is not there, as in a
            layer that is not run, is passed over.
        changes: Those that are no ``Listed`` are passed over.

    Raises:
        SecateursError: A list has another number of modules than it had when it was pruned.
    """
    wanted = {change.module: change for change in changes if isinstance(change, Listed)}
    lists = [(name_before(model, name), module) for name, module in model.named_modules()] if wanted else []
    for name, module in lists:
        change = wanted.get(name)
        if change is None or "_names_before" in vars(module):
            continue
        if len(module._modules) != change.size:
            raise SecateursError(
                f"{name} holds {len(module._modules)} modules and held {change.size} when it was pruned: "
                "it is not the network that was pruned"
            )
        names = list(module._modules)
        closed = {names[i]: module._modules[names[number]] for i, number in enumerate(change.kept)}
        module._names_before = {names[i]: names[number] for i, number in enumerate(change.kept)}
        module._modules.clear()
        module._modules.update(closed)


def like_modules(model: nn.Module) -> list[tuple[str, ...]]:
    """The names of the modules of every list, or dict by number, of like modules: one class, the same tensors.

    None of them shares a tensor with any other module.

    Args:
        model: Any network.
    """
    owners = Counter(id(it) for _, it in model.named_parameters(remove_duplicate=False))
    found = []
    for name, module in model.named_modules():
        inside = list(module.children())
        if isinstance(module, nn.ModuleList | nn.ModuleDict) and len(inside) > 1 and _are_numbered(module):
            alone = all(owners[id(it)] == 1 for it in module.parameters())
            if alone and next(inside[0].parameters(), None) is not None and len(set(map(_form, inside))) == 1:
                found.append(tuple(f"{name}.{child}" if name else child for child, _ in module.named_children()))
    return found


def _are_numbered(module: nn.Module) -> bool:
    """Whether the names of what it holds count up from nought, after one and the same word."""
    first, *_ = names = list(module._modules)
    return first.endswith("0") and names == [f"{first[:-1]}{i}" for i in range(len(names))]


def _form(module: nn.Module) -> Hashable:
    parts = tuple((name, type(part)) for name, part in module.named_modules())
    held = [*module.named_parameters(), *module.named_buffers()]
    return parts, tuple((name, it.shape, it.dtype) for name, it in held)


def reading_alike(model: nn.Module, read: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """What all modules of lists would read where one of their likes does.

    Args:
        model: Any network.
        read: ``(id of a module, attribute)`` that were read.
    """
    attributes: dict[int, list[str]] = {}
    for holder, attribute in read:
        attributes.setdefault(holder, []).append(attribute)
    for names in like_modules(model):
        for parts in zip(*(model.get_submodule(name).modules() for name in names), strict=True):
            every = {attribute for part in parts for attribute in attributes.get(id(part), ())}
            yield from ((id(part), attribute) for part in parts for attribute in every)
