"""The chains of like blocks that a deep network is made of, found by structure alone, and so on the meta device too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from torch import nn

from secateurs.types import SecateursError

LEAST_SHARE = 0.05
"""A second chain (a decoder beside an encoder) holds at least this much of what the greatest one holds."""


@dataclass(frozen=True)
class Chain:
    """Blocks that run one after the other.

    Args:
        name: Qualified name of the list they stand in, or what their own names begin with.
        blocks: Their qualified names, in order.
    """

    name: str
    blocks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.blocks)

    def modules(self, model: nn.Module) -> tuple[nn.Module, ...]:
        """The blocks themselves."""
        return tuple(model.get_submodule(name) for name in self.blocks)


def chains(model: nn.Module) -> tuple[Chain, ...]:
    """Find the chains that hold most of a network: one as a rule, two in an encoder-decoder.

    A ``ModuleList`` counts as a whole where two of its members at least are of one class or name two of their own
    modules alike (the blocks of a hybrid network differ); members of a ``Sequential``, and siblings named by number,
    count where consecutive ones are of one class and have parameters of the same names and shapes. Blocks that are
    single layers count only in a network without others. A network without any of these that has a ``ModuleList`` of
    one (a network of a single block) is a chain of that.

    Args:
        model: On any device, the meta device included.

    Returns:
        In the order in which they are registered, which is the order in which they run.

    Raises:
        SecateursError: There is none.
    """
    candidates = list(_candidates(model))
    several, lone = _made_up(model, candidates), _made_up(model, _lone(model))
    sized = [(sum(map(_size, chain.modules(model))), chain) for chain in several or lone or candidates]
    sized = sorted(sized, key=lambda pair: -pair[0])[: None if several or not lone else 1]
    chosen: list[Chain] = []
    for size, chain in sized:
        if size >= LEAST_SHARE * sized[0][0] and not any(_overlap(chain, other) for other in chosen):
            chosen.append(chain)
    if not chosen:
        raise SecateursError(
            f"{type(model).__name__} has no chain of blocks: looked for a ModuleList with two members alike, "
            "and for members of a Sequential, or siblings named by number, that have the same parameters"
        )
    order = {name: position for position, (name, _) in enumerate(model.named_modules())}
    return tuple(sorted(chosen, key=lambda chain: order[chain.blocks[0]]))


def outside(model: nn.Module, found: Sequence[Chain]) -> tuple[str, ...]:
    """Names of the parameters and lasting buffers that no block of these chains holds; a tied one by its first name."""
    blocks = [name for chain in found for name in chain.blocks]
    lasting = set(model.state_dict(keep_vars=True))
    named = (*model.named_parameters(), *model.named_buffers())
    return tuple(name for name, _ in named if name in lasting and not any(_within(name, block) for block in blocks))


def _candidates(model: nn.Module) -> Iterator[Chain]:
    for name, module in model.named_modules():
        children = [(key, child) for key, child in module.named_children() if _size(child)]
        dot = f"{name}." if name else ""
        if isinstance(module, nn.ModuleList):
            if any(_akin(one, other) for (_, one), (_, other) in combinations(children, 2)):
                yield Chain(name, tuple(dot + key for key, _ in children))
            continue
        for stem, run in _runs(children):
            yield Chain((dot + stem).rstrip("._"), tuple(dot + key for key in run))


def _lone(model: nn.Module) -> list[Chain]:
    """Lists of one module."""
    lists = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and name)
    return [Chain(name, (f"{name}.0",)) for name, module in lists if len(module) == 1]


def _made_up(model: nn.Module, found: Sequence[Chain]) -> list[Chain]:
    """Those of blocks that are more than single layers."""
    return [chain for chain in found if any(any(block.children()) for block in chain.modules(model))]


def _runs(children: Sequence[tuple[str, nn.Module]]) -> Iterator[tuple[str, list[str]]]:
    """Names of consecutive children that are alike, two at least, with what the names begin with."""
    run: list[str] = []
    last: Any = None
    for key, child in (*children, ("", nn.Identity())):
        stem = re.sub(r"\d+$", "", key)
        kind = (stem, type(child), tuple((n, tuple(p.shape)) for n, p in child.named_parameters()))
        if run and kind != last:
            if len(run) > 1:
                yield last[0], run
            run = []
        if stem != key:
            run.append(key)
        last = kind


def _akin(one: nn.Module, other: nn.Module) -> bool:
    return type(one) is type(other) or len(dict(one.named_children()).keys() & dict(other.named_children())) > 1


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _within(name: str, block: str) -> bool:
    return name == block or name.startswith(f"{block}.")


def _overlap(one: Chain, other: Chain) -> bool:
    return any(_within(a, b) or _within(b, a) for a in one.blocks for b in other.blocks)
