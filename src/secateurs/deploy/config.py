"""The config that says the sizes of a pruned transformers model, found and not tabled.

Fields of the dense network's config are scaled by the ratios in which tensors shrank, the class is built without memory
from each candidate, and its shapes are compared with those of the pruned network. Where whole blocks are not run their
list closes up, and fields that are its length are given the new one. Shapes alone do not prove a candidate.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from secateurs.deploy.build import Transformers
from secateurs.graph.trace import state
from secateurs.listed import Listed, close_up_
from secateurs.repair import Skipped, twin
from secateurs.types import SecateursError, name_before

MOST_BUILDS = 400
MOST_RATIOS = 6

Field = tuple["str | int", ...]
"""Where a number stands in a config: keys, and positions in lists."""

Change = tuple[tuple[Field, Any], ...]
"""Fields, and what each becomes; the first gives the others their reason."""

Shapes = Mapping[str, tuple[int, ...]]
Config = Mapping[str, Any]


@dataclass
class Search:
    """Configs whose network has the shapes of the pruned one, those with the fewest changes first.

    A network with biases that the pruned one lacks will do: they are zero.

    Args:
        build: Of the dense network.
        model: The pruned one, without the blocks that are not run; to be looked at, and not to be run.
        lists: Its lists that got shorter.
    """

    build: Transformers
    model: nn.Module
    lists: Sequence[Listed]

    @classmethod
    def of(cls, model: nn.Module, build: Transformers) -> Search:
        """For a pruned network, which may be on the meta device; it is left as it is."""
        return cls(build, *_closed_up(model))

    def __post_init__(self) -> None:
        self.wanted = _shapes(self.model)
        self.built: dict[str, Shapes | None] = {}
        self.nearest = ""
        self.fewest = len(self.wanted) + 1

    def refusal(self, problem: str = "") -> SecateursError:
        """What to say where no config is right; ``problem`` is what is wrong with the last that fits."""
        nearest = f"the network {problem}" if problem else self.nearest
        return SecateursError(
            f"no config of {self.build.architecture} makes this network ({nearest}): its layers differ, or the class "
            "has no field for that size; prune so that layers alike keep the same counts, or ship the artifact of "
            "`secateurs prune`"
        )

    def fits(self) -> Iterator[Config]:
        dense = self._shapes_of(self.build.config)
        if dense is None:
            return
        base = self._spelled_out(dense)
        near = self._near(base, dense)
        first = next(near, None) or next(near := self._near(self._with_unlisted(base, dense), dense), None)
        if first is not None:
            yield first
            yield from near

    def _near(self, base: Config, dense: Shapes) -> Iterator[Config]:
        hints = _Hints.of(dense, self.wanted)
        tried = [change for closed in self.lists for change in _shorter(base, closed)]
        tried += [((field, value),) for field, old in _fields(base) for value in hints.values(old, field, self.model)]
        if self.wanted.keys() != dense.keys():  # a tensor that was tied may not be so any more
            tried += [(((key,), not value),) for key, value in base.items() if isinstance(value, bool)]
        useful = [change for change in tried if self._shapes_of(_changed(base, change)) not in (None, dense)]
        yield from self._from(base, self._unlike(dense), useful, set())

    def _from(self, config: Config, left: int, useful: list[Change], seen: set[str]) -> Iterator[Config]:
        if left == 0:
            yield config
            return
        closer: list[tuple[int, int, Config, Field]] = []
        for i, change in enumerate(useful):
            shapes = self._shapes_of(candidate := _changed(config, change))
            key = repr(candidate)
            if shapes is not None and key not in seen and (unlike := self._unlike(shapes)) < left:
                seen.add(key)
                closer.append((unlike, i, candidate, change[0][0]))
        for unlike, _, candidate, field in sorted(closer, key=lambda found: found[:2]):
            yield from self._from(candidate, unlike, [change for change in useful if change[0][0] != field], seen)

    def _spelled_out(self, dense: Shapes) -> Config:
        """The dense config with fields that are left to a default given the size that modules of that name keep."""
        config = self.build.config
        for field, old in _fields(config):
            kept = _kept_by_modules(self.model, str(field[-1])) if old is None else set()
            if len(kept) == 1:
                candidate = _changed(config, ((field, kept.pop()),))
                config = candidate if self._shapes_of(candidate) == dense else config
        return config

    def _with_unlisted(self, base: Config, dense: Shapes) -> Config:
        """With sizes that the class takes from a config that has them; modules keep them by their names."""
        names = {name for module in self.model.modules() for name, it in vars(module).items() if type(it) is int}
        config = base
        for name in sorted(names - base.keys()):
            (value, *others) = _kept_by_modules(self.model, name)
            if not others and self._shapes_of({**config, name: value}) == dense:
                read = self._shapes_of({**config, name: 2 * value}) not in (None, dense)
                config = {**config, name: value} if read else config
        return config

    def _shapes_of(self, config: Config) -> Shapes | None:
        """What the class makes of a config; None where it refuses it."""
        key = repr(config)
        if key not in self.built:
            if len(self.built) >= MOST_BUILDS:
                return None
            try:
                with torch.device("meta"):
                    self.built[key] = _shapes(replace(self.build, config=config)())
            except Exception:  # every config has its own way to refuse
                self.built[key] = None
        return self.built[key]

    def _unlike(self, shapes: Shapes) -> int:
        """How many axes differ; a tensor that one of them lacks counts for more than any axis."""
        count, first = 0, ""
        for name in self.wanted.keys() | shapes.keys():
            if name not in self.wanted and is_bias(name, shapes[name]):
                continue
            mine, theirs = self.wanted.get(name, ()), shapes.get(name, ())
            differs = sum(a != b for a, b in zip(mine, theirs, strict=True)) if len(mine) == len(theirs) else 9
            count += differs
            if differs:
                first = min(first or name, name)
        if 0 < count < self.fewest or not self.nearest:
            shape = self.wanted.get(first)
            self.fewest, self.nearest = count, f"none fits {first} {list(shape)}" if shape else f"none lacks {first}"
        return count


@dataclass(frozen=True)
class _Hints:
    """How tensors shrank: ratios, commonest first, and new sizes."""

    ratios: tuple[Fraction, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, dense: Shapes, small: Shapes) -> _Hints:
        pairs = Counter(
            (old, new)
            for name in dense.keys() & small.keys()
            for old, new in zip(dense[name], small[name], strict=False)
            if old != new
        )
        plain = list(dict.fromkeys(Fraction(new, old) for (old, new), _ in pairs.most_common()))[:MOST_RATIOS]
        inner = [a / b for a in plain for b in plain if a < b]  # one factor of an axis, where another shrank as well
        return cls(tuple(dict.fromkeys([*plain, *inner])), tuple(dict.fromkeys(new for (_, new), _ in pairs.items())))

    def values(self, old: Any, field: Field, model: nn.Module) -> list[Any]:
        if old is None:
            return sorted({*self.sizes[:MOST_RATIOS], *_kept_by_modules(model, str(field[-1]))})
        if isinstance(old, int):
            return [int(old * ratio) for ratio in self.ratios if (old * ratio).denominator == 1]
        return [old * float(ratio) for ratio in self.ratios]


def _fields(config: Any, path: Field = ()) -> Iterator[tuple[Field, Any]]:
    """The numbers of a config that may be sizes, and the fields that are empty."""
    items = config.items() if isinstance(config, Mapping) else enumerate(config)
    for key, value in items:
        here = (*path, key)
        if not path and key in common_fields():
            continue
        if isinstance(value, Mapping | list):
            yield from _fields(value, here)
        elif value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value > 1):
            yield here, value


def common_fields() -> set[str]:
    """The fields that every config of transformers has; none of them is a size."""
    import transformers

    return set(transformers.PretrainedConfig().to_dict())


def _shorter(config: Config, closed: Listed) -> Iterator[Change]:
    """For each field that may be the length of a list of blocks: the new one; with it, what is said of each block."""
    said = tuple(
        (field, [items[i] for i in closed.kept]) for field, items in _lists(config) if len(items) == closed.size
    )
    for field, old in _fields(config):
        if old == closed.size:
            yield (field, len(closed.kept)), *said


def _lists(config: Config, path: Field = ()) -> Iterator[tuple[Field, list[Any]]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _lists(value, (*path, key))
        elif isinstance(value, list):
            yield (*path, key), value


def _changed(config: Config, change: Change) -> Config:
    changed = copy.deepcopy(dict(config))
    for field, value in change:
        holder: Any = changed
        for key in field[:-1]:
            holder = holder[key]
        holder[field[-1]] = value
    return changed


def _kept_by_modules(model: nn.Module, name: str) -> set[int]:
    """The integers that modules keep under the name of a field."""
    held = (vars(module).get(name) for module in model.modules())
    return {value for value in held if type(value) is int}


def is_bias(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor of this name and shape is the bias of a layer."""
    return len(shape) == 1 and name.endswith("bias")


def _shapes(model: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in state(model)}


def _closed_up(model: nn.Module) -> tuple[nn.Module, list[Listed]]:
    """A twin without the blocks that are not run, to be looked at and not to be run; and its lists that got shorter."""
    closed, lists = twin(model), []
    for name, module in closed.named_modules():
        if isinstance(module, nn.ModuleList):
            stay = tuple(i for i, block in enumerate(module) if not _is_gone(block))
            lists += [Listed(name_before(closed, name), stay, len(module))] if 0 < len(stay) < len(module) else []
    close_up_(closed, lists)
    return closed, lists


def _is_gone(block: nn.Module) -> bool:
    """Whether it is not run, nor anything in it that has tensors."""
    return any(isinstance(it, Skipped) for it in block.modules()) and next(block.parameters(), None) is None
