"""Python remembers sizes: find the module attributes that a smaller network needs changed.

A module's integers are looked up among the sizes, partial products and segments of the axes that it or its children
carry. Where one old size has several new ones, each is a choice; like modules share a choice, so there are few. Whoever
shrinks the network tries the choices, the nearest tensor's first, until a forward pass proves one right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any

from torch import Tensor, nn

from secateurs.graph.attempts import Progress, attempts
from secateurs.graph.network import Factors, Graph, Sizes, Sum
from secateurs.repair import Repair

MIRRORS = MappingProxyType(
    {
        "in_features": 1,
        "out_features": 0,
        "num_features": 0,
        "num_channels": 0,
        "num_embeddings": 0,
        "embedding_dim": 1,
    }
)
"""Attributes of torch's own layers that repeat a size of their weight: attribute -> axis."""

CONVOLUTION = frozenset({"in_channels", "out_channels"})
"""The same for convolutions, where the groups enter."""

GEOMETRY = frozenset({"kernel_size", "stride", "padding", "output_padding", "dilation"})
"""Attributes of convolutions that are no size of a dim, whatever they equal."""

ATTENTION = frozenset({"embed_dim", "kdim", "vdim", "num_heads"})
"""Attributes of torch's attention that follow from its tensors and the width of a head."""

Key = tuple[str, ...]
"""Where a size was found: tensor relative to the module, axis, first and last factor."""

Found = dict[int, dict[Key, int]]
"""Old size -> place -> new size."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """An integer, or one of several integers in a sequence, that a module keeps."""

    module: str
    path: str
    position: int | None
    value: int


@dataclass(frozen=True)
class Choices:
    """What attributes of a shrunk network may have to be.

    Args:
        fixed: Those with one possible new size.
        open: For each kind of ambiguous attribute its possible assignments, the likeliest first.
    """

    fixed: Mapping[Attribute, int]
    open: Sequence[Sequence[Mapping[Attribute, int]]]

    def tries(self, model: nn.Module, progress: Progress) -> Iterator[list[Repair]]:
        """Sets of repairs to try, most likely first; ``mirrors`` completes each.

        Args:
            model: The network after its tensors shrank, attributes still stale.
            progress: How far the last one went.
        """
        for chosen in attempts(self.open, progress):
            values = {**self.fixed}
            for assignment in chosen:
                values.update(assignment)
            yield list(_repairs(model, values))


def choices_of(model: nn.Module, network: Graph, sizes: Sizes, read: set[tuple[int, str]]) -> Choices:
    """The attributes of a shrunk network that equal a size which has changed.

    Args:
        model: The network after its tensors shrank, attributes still stale.
        network: As traced before.
        sizes: New sizes of the dims that shrank.
        read: ``(id of an object, attribute)`` that a forward pass reads, see ``reads``.
    """
    found = _sizes_by_module(model, network, sizes)
    fixed: dict[Attribute, int] = {}
    kinds: dict[tuple[type, str, int | None, bool], list[tuple[Attribute, dict[Key, int]]]] = {}
    for name, module in model.named_modules():
        for attribute, is_read in _attributes(name, module, read):
            kind = (type(module), attribute.path, attribute.position, is_read)
            kinds.setdefault(kind, []).append((attribute, found[name].get(attribute.value, {})))
    doubtful: list[list[dict[Attribute, int]]] = []
    for (*_, is_read), instances in kinds.items():
        if not all(options for _, options in instances):
            continue  # it equals a size in some modules and not in others: a counter, or a stride
        if is_read:
            alike: dict[tuple[int, frozenset[Key]], list[tuple[Attribute, dict[Key, int]]]] = {}
            for attribute, options in instances:
                alike.setdefault((attribute.value, frozenset(options)), []).append((attribute, options))
            doubtful += [_assignments(some) for some in alike.values()]
        else:  # no forward pass can prove it: change it only where there is no doubt
            fixed.update(_undoubted(instances))
    return Choices(fixed, [ways for ways in doubtful if len(ways) > 1])


def _undoubted(instances: list[tuple[Attribute, dict[Key, int]]]) -> dict[Attribute, int]:
    """The new sizes that all of the module's own and its children's tensors agree on."""
    out: dict[Attribute, int] = {}
    for attribute, options in instances:
        near = {new for key, new in options.items() if key[0].count(".") <= 1}
        if len(near) == 1:
            out[attribute] = near.pop()
    return out


def _assignments(instances: list[tuple[Attribute, dict[Key, int]]]) -> list[dict[Attribute, int]]:
    """The distinct ways to give like attributes a new size from like places, nearest place first.

    Unchanged comes after the places that are the module's own or its children's, and before those further below: an
    integer that equals the size of something deep inside is more often something else, and a forward pass on one input
    need not tell. A field of a shared record is left unchanged first: that speaks for the whole network.
    """
    keys = sorted({key for _, options in instances for key in options}, key=lambda key: (key[0].count("."), key))
    ways = [{attribute: options.get(key, attribute.value) for attribute, options in instances} for key in keys]
    unchanged = {attribute: attribute.value for attribute, _ in instances}
    near = sum(key[0].count(".") <= 1 for key in keys)
    ways.insert(0 if "." in instances[0][0].path else near, unchanged)
    distinct: list[dict[Attribute, int]] = []
    for way in ways:
        if way not in distinct:
            distinct.append(way)
    return distinct


def _sizes_by_module(model: nn.Module, network: Graph, sizes: Sizes) -> dict[str, Found]:
    """For every module the sizes that its own tensors and its descendants' carry."""
    found: dict[str, Found] = {name: {} for name, _ in model.named_modules()}
    for tensor, axes in network.tensors.items():
        holder, _, leaf = tensor.rpartition(".")
        path = holder.split(".") if holder else []
        pairs = [(str(i), *pair) for i, axis in enumerate(axes) for pair in _partial_products(axis, network, sizes)]
        for depth in range(len(path), -1, -1):
            relative = ".".join([*path[depth:], leaf])
            here = found[".".join(path[:depth])]
            for axis, where, old, new in pairs:
                here.setdefault(old, {})[relative, axis, where] = new
    shared: dict[str, Found] = {}
    for name in [name for name, here in found.items() if name and not here]:
        parent = name.rpartition(".")[0]  # without tensors of its own it works on those of its neighbours
        if parent not in shared:
            there = found[parent].items()
            shared[parent] = {old: {(f"..{t}", *where): n for (t, *where), n in at.items()} for old, at in there}
        found[name] = shared[parent]
    return found


def _partial_products(axis: Factors, network: Graph, sizes: Sizes) -> Iterator[tuple[str, int, int]]:
    """Every run of neighbouring factors of an axis, and of the parts of a sum: where, old size, new size."""
    for start in range(len(axis)):
        for stop in range(len(axis), start, -1):
            run = axis[start:stop]
            yield f"{start}:{stop}", network.size(run), network.size(run, sizes)
    for i, factor in enumerate(axis):
        if isinstance(factor, Sum):
            for j, part in enumerate(factor.parts):
                for where, old, new in _partial_products(part, network, sizes):
                    yield f"{i}.{j}.{where}", old, new


def _held(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The attributes of a module that may be sizes, or hold some."""
    mirrored = {*MIRRORS, *CONVOLUTION, *(GEOMETRY if isinstance(module, nn.modules.conv._ConvNd) else ())}
    mirrored |= ATTENTION if isinstance(module, nn.MultiheadAttention) else set()
    for key, value in vars(module).items():
        if not (key.startswith("_") or key in mirrored) and (_is_record(value) or list(_integers(value))):
            yield key, value


def _attributes(name: str, module: nn.Module, read: set[tuple[int, str]]) -> Iterator[tuple[Attribute, bool]]:
    for key, value in _held(module):
        for position, number in _integers(value):
            yield Attribute(name, key, position, number), (id(module), key) in read
        if _is_record(value) and (id(module), key) in read:
            for inner, held in vars(value).items():
                for position, number in _integers(held):
                    if (id(value), inner) in read:
                        yield Attribute(name, f"{key}.{inner}", position, number), True


def _integers(value: Any) -> Iterator[tuple[int | None, int]]:
    if type(value) is int and value > 1:
        yield None, value
    elif isinstance(value, list | tuple) and all(type(item) is int for item in value):
        for i, item in enumerate(value):
            if item > 1:
                yield i, item


def _is_record(value: Any) -> bool:
    """A plain object that holds settings, such as a config."""
    return hasattr(value, "__dict__") and not isinstance(value, nn.Module | Tensor | FunctionType | ModuleType | type)


def _repairs(model: nn.Module, values: Mapping[Attribute, int]) -> Iterator[Repair]:
    by_place: dict[tuple[str, str], dict[int | None, int]] = {}
    for attribute, value in values.items():
        if value != attribute.value:
            by_place.setdefault((attribute.module, attribute.path), {})[attribute.position] = value
    for (module, path), changes in by_place.items():
        if None in changes:
            yield Repair(module, path, changes[None])
        else:
            old: Any = model.get_submodule(module)
            for step in path.split("."):
                old = getattr(old, step)
            yield Repair(module, path, tuple(changes.get(i, n) for i, n in enumerate(old)))


def mirrors(model: nn.Module) -> list[Repair]:
    """Sizes that torch's layers repeat from their weight: never in doubt, once the other repairs are made."""
    out: list[Repair] = []
    for name, module in model.named_modules():
        held = vars(module)
        sizes = _mirrored(module)
        out += [Repair(name, key, n) for key, n in sizes.items() if isinstance(held.get(key), int) and held[key] != n]
    return out


def _mirrored(module: nn.Module) -> dict[str, int]:
    if isinstance(module, nn.MultiheadAttention):
        width, inner = module.out_proj.weight.shape
        packed = module.in_proj_weight is not None
        keys, values = (width, width) if packed else (module.k_proj_weight.shape[1], module.v_proj_weight.shape[1])
        return {"embed_dim": width, "kdim": keys, "vdim": values, "num_heads": inner // module.head_dim}
    weight = _weight(module)
    weight = weight if isinstance(weight, Tensor) else getattr(module, "running_mean", None)
    if not isinstance(weight, Tensor):
        return {}
    sizes = {key: weight.shape[axis] for key, axis in MIRRORS.items() if axis < weight.dim()}
    if isinstance(module, nn.modules.conv._ConvNd):
        rows, columns = weight.shape[:2]
        here, there = ("in_channels", "out_channels") if module.transposed else ("out_channels", "in_channels")
        sizes |= {here: rows, there: columns * module.groups}
    return sizes


def _weight(module: nn.Module) -> Any:
    """Its weight; None where that is computed, and a repair on trial is wrong for what computes it."""
    try:
        return getattr(module, "weight", None)
    except Exception:  # whatever a parametrization raises
        return None


@contextmanager
def reads(model: nn.Module) -> Iterator[set[tuple[int, str]]]:
    """While open, notes what is read of modules that may keep a size, and of plain objects they hold: (id, name)."""
    seen: set[tuple[int, str]] = set()
    records = [value for module in model.modules() for value in vars(module).values() if _is_record(value)]
    keepers = [module for module in model.modules() if list(_held(module))]
    changed = [cls for cls in {type(x) for x in (*keepers, *records)} if _watch(cls, seen)]
    try:
        yield seen
    finally:
        for cls in changed:
            _unwatch(cls)


def _watch(cls: type, seen: set[tuple[int, str]]) -> bool:
    original: Any = cls.__getattribute__
    own = "__getattribute__" in vars(cls)

    def watched(self: Any, name: str) -> Any:
        seen.add((id(self), name))
        return original(self, name)

    watched.original = original if own else None  # type: ignore[attr-defined]
    try:
        cls.__getattribute__ = watched  # type: ignore[method-assign, assignment]
    except TypeError:  # a class of the interpreter's own
        return False
    return True


def _unwatch(cls: type) -> None:
    original = vars(cls)["__getattribute__"].original
    if original is None:
        del cls.__getattribute__
    else:
        cls.__getattribute__ = original  # type: ignore[method-assign]
