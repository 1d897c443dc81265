"""A pruned transformers model as a plain ``from_pretrained`` directory, where a config alone can say its sizes.

After a uniform pruning (every layer keeps the same counts) the smaller network is a network of the same class with
another config. Which fields that takes is not tabled but found: fields of the config are scaled by the ratios in which
tensors shrank, the class is built without memory from each candidate, and its shapes are compared with those of the
pruned network. Where whole blocks are not run their list closes up, and fields that are its length are given the new
one. A candidate that fits is proven by a forward pass.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateurs.archive import give_state_, read_state
from secateurs.deploy.build import Transformers
from secateurs.deploy.save import aside, copy_files
from secateurs.graph.agreement import difference
from secateurs.graph.trace import forward, state
from secateurs.listed import Listed, close_up_
from secateurs.repair import Skipped, twin
from secateurs.types import Inputs, SecateursError, name_before

MOST_BUILDS = 400
MOST_RATIOS = 6

Field = tuple["str | int", ...]
"""Where a number stands in a config: keys, and positions in lists."""

Change = tuple[tuple[Field, Any], ...]
"""Fields, and what each becomes; the first gives the others their reason."""

Shapes = Mapping[str, tuple[int, ...]]
Config = Mapping[str, Any]


def save_pretrained(directory: str | Path, model: nn.Module, build: Transformers, example_inputs: Inputs) -> None:
    """Write a directory that ``from_pretrained`` loads without secateurs: all of it, or nothing.

    Args:
        directory: Must not exist; parents are made.
        model: A pruned transformers model.
        build: The dense network it was pruned from; its files (tokenizer, processor) lie beside the weights.
        example_inputs: For the proof.

    Raises:
        SecateursError: The directory exists or cannot be written, or no config of the class makes this network.
    """
    directory = Path(directory)
    if directory.exists() or directory.is_symlink():
        raise SecateursError(f"{directory} exists: give a directory that does not, or remove it")
    found: Any = fitted(model, build, example_inputs)
    with aside(directory) as partial:
        found.save_pretrained(partial)
        copy_files(build.files, partial)
        again = type(found).from_pretrained(partial, local_files_only=True)
        problem = difference(again, example_inputs, forward(model.cpu(), example_inputs))
        if problem:
            raise SecateursError(f"{directory} was not written: what transformers loads from it {problem}")


def fitted(model: nn.Module, build: Transformers, example_inputs: Inputs) -> nn.Module:
    """A network of the same class, made from a config alone, with the tensors of the pruned one.

    Args:
        model: A pruned transformers model; left as it is.
        build: The dense network it was pruned from.
        example_inputs: On which both must agree.

    Raises:
        SecateursError: No config was found; the line names a tensor that none of them fits.
    """
    expected = forward(model, example_inputs)
    closed, lists = _closed_up(model)
    search = _Search(build, closed, lists)
    problem = ""
    for config in search.fits():
        made = replace(build, config=config)()
        give_state_(made, read_state(closed))
        made = made.to(next(model.parameters()).device).eval()
        problem = difference(made, example_inputs, expected)
        if not problem:
            return made
    nearest = f"the network {problem}" if problem else search.nearest
    raise SecateursError(
        f"no config of {build.architecture} makes this network ({nearest}): its layers differ, or the class has no "
        "field for that size; prune so that layers alike keep the same counts, or ship the artifact"
    )


def _closed_up(model: nn.Module) -> tuple[nn.Module, list[Listed]]:
    """A twin without the blocks that are not run, to be looked at and not to be run; and its lists that got shorter."""
    closed, lists = twin(model), []
    for name, module in closed.named_modules():
        if isinstance(module, nn.ModuleList):
            stay = tuple(i for i, block in enumerate(module) if not isinstance(block, Skipped))
            lists += [Listed(name_before(closed, name), stay, len(module))] if 0 < len(stay) < len(module) else []
    close_up_(closed, lists)
    return closed, lists


@dataclass
class _Search:
    """Configs whose network has the shapes of the pruned one, those with the fewest changes first."""

    build: Transformers
    model: nn.Module
    lists: Sequence[Listed]

    def __post_init__(self) -> None:
        self.wanted = _shapes(self.model)
        self.built: dict[str, Shapes | None] = {}
        self.nearest = ""
        self.fewest = len(self.wanted) + 1

    def fits(self) -> Iterator[Config]:
        dense = self._shapes_of(self.build.config)
        if dense is None:
            return
        base = self._spelled_out(dense)
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


def _shapes(model: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in state(model)}
