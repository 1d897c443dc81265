"""What proves a shrunk network: on the example inputs it computes what the masked one does.

It is also how the repair of what Python remembers of sizes is found: candidates are tried until one is proven right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from secateurs.graph import Graph
from secateurs.graph.agreement import Reference, glance, reference
from secateurs.graph.attempts import Progress
from secateurs.graph.attributes import choices_of, mirrors, reads
from secateurs.graph.network import Sizes
from secateurs.graph.numbering import renumbered
from secateurs.graph.precision import Masks, Pass
from secateurs.graph.trace import state
from secateurs.listed import Listed, reading_alike
from secateurs.repair import Change, Repair, apply_repairs_, skip_, twin
from secateurs.types import Inputs, SecateursError, Skip, name_before
from secateurs.vocabulary import Tokens

Positions = Mapping[tuple[str, int], Tensor]
"""(tensor, axis) -> positions that stay, ascending."""


class UnprovenError(SecateursError):
    """The shrunk network does not run, or computes something else than the masked one."""


@dataclass(frozen=True)
class Cut:
    """What a plan takes away.

    Tokens keep their numbers, so that the size of a vocabulary is the old one wherever Python keeps it.

    Args:
        masks: Tensor name -> what of it is zero in the masked network.
        left: Those of them that are of no dim: of what stays along dims, they are zero still.
        kept: The positions that stay.
        sizes: The new sizes of dims.
        skips: The modules that are not run.
        tokens: The tokens that stay.
        lists: The lists that get shorter.
        run: A forward pass of the masked network.
    """

    masks: Mapping[str, Tensor]
    left: Mapping[str, Tensor]
    kept: Positions
    sizes: Sizes
    skips: tuple[Skip, ...]
    tokens: tuple[Tokens, ...]
    lists: tuple[Listed, ...]
    run: Pass


def shrunk_(small: nn.Module, model: nn.Module, cut: Cut, network: Graph, inputs: Inputs) -> tuple[Change, ...]:
    """Shrink a twin in place; the repairs that a forward pass has proven.

    Where one repair alone is in question, single precision proves it, if all agrees to the last digits: what modules
    return along the pass, too. Otherwise double precision decides.

    Args:
        small: A twin of ``model``. What it loses is cut without a copy where it can be.
        model: The dense-shaped network; left alone.
        cut: What goes.
        network: The trace of ``model``.
        inputs: For the proof.

    Raises:
        UnprovenError: No repair of the module attributes makes it run and agree with the masked network.
    """
    progress = Progress()
    with reads(small) as read, progress.recording():
        masked = glance(small, inputs, cut.run, _masks(small, cut))
        wanted = masked or reference(small, inputs, cut.run, _masks(small, cut))
    read |= set(reading_alike(small, read))
    numbers = renumbered(small, cut.skips)
    skip_(small, cut.skips)
    cut_(small, cut)
    there = {name for name, _ in small.named_modules()}
    tokens = tuple(it for it in cut.tokens if it.module in there)
    lists = tuple(it for it in cut.lists if it.module in there)
    apply_repairs_(small, (*tokens, *lists))
    network = _renamed(network.without(skip.module for skip in cut.skips), small)
    choices = choices_of(small, network, cut.sizes, read)

    def found(wanted: Reference) -> tuple[Change, ...] | str:
        return _found(small, wanted, _tries(choices.tries(small, progress), numbers), progress)

    changes = found(wanted) if masked is None or not choices.open else ""
    if isinstance(changes, str) and masked is not None:
        other = twin(model)
        changes = found(reference(other, inputs, cut.run, _masks(other, cut)))
    if isinstance(changes, str):
        raise UnprovenError(f"the shrunk network {changes}")
    return (*cut.skips, *lists, *tokens, *changes)


def _renamed(network: Graph, small: nn.Module) -> Graph:
    """The same network as its tensors are called now that lists have closed up."""
    names = {name_before(small, name): name for name, _ in state(small)}
    return replace(network, tensors={names[name]: axes for name, axes in network.tensors.items() if name in names})


def _masks(model: nn.Module, cut: Cut) -> Masks:
    return {tensor: cut.masks[name] for name, tensor in state(model) if name in cut.masks}


def _found(
    model: nn.Module, wanted: Reference, tries: Iterator[list[Repair]], progress: Progress
) -> tuple[Change, ...] | str:
    """The first repairs that make it agree, applied; or what is wrong with those that got furthest."""
    problems: list[tuple[tuple[int, int], str]] = []
    for repairs in tries:
        undo = _snapshot(model, repairs)
        apply_repairs_(model, repairs)
        undo = {**_snapshot(model, mirrored := mirrors(model)), **undo}
        apply_repairs_(model, mirrored)
        with progress.following():
            difference = wanted.compared(model)
        if max(difference.size, progress.apart if wanted.along else 0.0) <= wanted.tolerance:
            return (*repairs, *mirrored)
        progress.said = difference.words
        problems.append((progress.reached, difference.words))
        for (module, attribute), value in undo.items():
            setattr(model.get_submodule(module), attribute, value)
    return max(problems, key=lambda found: found[0])[1]


def _tries(candidates: Iterator[list[Repair]], numbers: list[Repair]) -> Iterator[list[Repair]]:
    """Every candidate, with the layers numbered anew first, then with the numbers that they had."""
    for repairs in candidates:
        yield [*repairs, *numbers]
        if numbers:
            yield repairs


def _snapshot(model: nn.Module, repairs: Iterable[Repair]) -> dict[tuple[str, str], object]:
    places = [(repair.module, repair.attribute.split(".")[0]) for repair in repairs]
    return {(module, top): getattr(model.get_submodule(module), top) for module, top in places}


def cut_(model: nn.Module, cut: Cut) -> None:
    """Zero what is masked and take away what does not stay; in the memory that the network has, where it can be."""
    for name, tensor in state(model):  # where a whole layer went, its tensors are not among them
        shorter = any((name, axis) in cut.kept for axis in range(tensor.dim()))
        if shorter or name in cut.masks:
            tensor.grad = None
            tensor.data = _left(tensor, name, cut, (cut.left if shorter else cut.masks).get(name))


def _left(tensor: Tensor, name: str, cut: Cut, mask: Tensor | None) -> Tensor:
    data = tensor.data
    for axis in range(data.dim()):
        stay = cut.kept.get((name, axis))
        if stay is not None:
            first, last = int(stay[0]), int(stay[-1])
            if type(tensor) is nn.Parameter and last - first + 1 == len(stay):
                data = data.narrow(axis, first, len(stay))
            else:
                data = data.index_select(axis, stay.to(data.device))
            if mask is not None and mask.shape[axis] > 1:
                mask = mask.index_select(axis, stay.to(mask.device))
    return data if mask is None or bool(mask.all()) else data * mask
