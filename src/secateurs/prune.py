"""The method on one page: score, allocate, select, mask, shrink, heal; round after round.

Each round decides on the dense-shaped network, in which what was dropped before is zero, and heals the physically
smaller one; its values are then placed back, so that pruning goes on from there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial

import torch
from torch import nn

from secateurs import evidence, surgery, trials
from secateurs.biases import known, lacking
from secateurs.choosing import Latest, choose
from secateurs.graph import Graph, recorded, trace
from secateurs.graph.rewrite import RewriteError
from secateurs.graph.statistics import differs
from secateurs.graph.weightless import has_values
from secateurs.proof import UnprovenError
from secateurs.recipe import Recipe
from secateurs.repair import Biased, Change, bias_, copied
from secateurs.select import without_dropped
from secateurs.settling import Later, Settling, settle_network_
from secateurs.turning import turned
from secateurs.types import Facts, Group, Inputs, Plan, Price, ReachError, Scores, SecateursError, Structure, Task

logger = logging.getLogger("secateurs.prune")

NEARLY_ALL = 1 - 1e-6
"""A sparsity that is out of reach wherever any is."""
SMALL = 0.25
"""Share of the parameters below which it is told how much the structures name."""


@dataclass(frozen=True)
class Pruned:
    """A pruned network.

    Args:
        model: Physically smaller where the structure allows it; runs.
        plan: What stays, relative to the dense network.
        repairs: The attributes that the smaller network needed changed, the modules that it does not run, the tokens
            that it has, the biases that it was given.
        masked: The dense-shaped network with the same values and zeros elsewhere; pruning goes on from it.
        groups: The groups that the plan speaks of.
        sparsity: The fraction removed that was asked for.
    """

    model: nn.Module
    plan: Plan
    repairs: tuple[Change, ...]
    masked: nn.Module
    groups: tuple[Group, ...]
    sparsity: float


def prune(
    model: nn.Module,
    task: Task,
    recipe: Recipe,
    sparsity: float,
    *,
    start: Pruned | None = None,
    network: Graph | None = None,
) -> Pruned:
    """Prune a network to a sparsity: ``rounds`` run to its end."""
    pruned = start
    for pruned in rounds(model, task, recipe, sparsity, start=start, network=network):  # noqa: B007
        pass
    assert pruned is not None  # a schedule has at least one round
    return pruned


def rounds(
    model: nn.Module,
    task: Task,
    recipe: Recipe,
    sparsity: float,
    *,
    start: Pruned | None = None,
    network: Graph | None = None,
) -> Iterator[Pruned]:
    """Prune round by round; whoever has a training loop of their own iterates this and trains ``model`` in between.

    What Python does not let shrink is found on trial, before anything is decided. But where all is decided at once and
    from the weights alone, that is cheap to do again: then the proof of the result comes first, and trials follow where
    it fails.

    Args:
        model: The dense network; left alone.
        task: Calibration data and loss; healing data where the recipe heals.
        recipe: The method.
        sparsity: Fraction removed in the end, in the currency of the recipe's allocation, in (0, 1).
        start: An earlier result on the same network, to go on from.
        network: The trace of ``model``, where it is at hand.

    Raises:
        SecateursError: The recipe does not fit the sparsity or the network, or the forward pass fails.
    """
    recipe.check(sparsity)
    if not has_values(model):
        raise SecateursError(
            "the network is on the meta device and has no weights to prune; load them first, or let `secateurs shrink` "
            "prune the checkpoint block by block"
        )
    network = network or traced(model, task.example_inputs, recipe)
    model, network = turned(model, task, recipe.basis, recipe.structure, recipe.calibration_batches, network)
    every = () if start else claimed(recipe.structure, network)
    if every and _is_cheap(recipe, every, sparsity, network):
        try:
            yield from _rounds(model, task, recipe, sparsity, unpruned(model, every), network)
            tell(recipe.structure, every, network)
            return
        except UnprovenError as error:
            logger.info("not all of it can be taken away (%s); finding out what can", error)
    if start is None:
        start = unpruned(model, find_groups(model, recipe.structure, network, task.example_inputs))
    yield from _rounds(model, task, recipe, sparsity, start, network)


def _is_cheap(recipe: Recipe, groups: Sequence[Group], sparsity: float, network: Graph) -> bool:
    """Whether all that is asked is decided at once, from the weights alone, and within reach of these groups."""
    if recipe.sequential or recipe.needs - {"weight"} or len(recipe.schedule(sparsity)) > 1:
        return False
    with suppress(SecateursError):
        check_reach(recipe, groups, sparsity, network.price(groups, recipe.allocation.currency))
        return True
    return False


def unpruned(model: nn.Module, groups: tuple[Group, ...]) -> Pruned:
    """The network as given, with nothing removed: what pruning starts from."""
    return Pruned(model, Plan({}), (), model, groups, 0.0)


def _rounds(
    model: nn.Module, task: Task, recipe: Recipe, sparsity: float, start: Pruned, network: Graph
) -> Iterator[Pruned]:
    groups, plan, small = start.groups, start.plan, start.model
    added = _biased(model, recipe, start)
    network, current = known(network, added), copied(start.masked)
    bias_(current, added)
    if small is not start.masked:  # whoever trained the smaller network since then wants that kept
        surgery.scatter_(current, small, groups, plan)
    price = network.price(groups, recipe.allocation.currency)
    check_reach(recipe, groups, sparsity, price)
    steps = recipe.schedule(sparsity, start.sparsity)
    for number, step in enumerate(steps, start=1):
        logger.info("round %d of %d: sparsity %.3f", number, len(steps), step)
        apart = differs(network, groups, plan)
        found = evidence.facts(small if apart else current, task, recipe.needs, recipe.calibration_batches, groups)
        if apart:  # the masked network takes statistics over zeros, the small one does not
            kept = surgery.positions(current, groups, plan)
            found = (surgery.dense_facts(each, small, current, kept) for each in found)
        facts = Latest(found)
        scores = Later(partial(_scores, current, groups, recipe, facts, plan))
        counts = recipe.allocation(groups, scores, step, price)
        if recipe.sequential:
            settling = Settling.of(current, network, groups, recipe)
            settling.counts, settling.plan = counts, plan
            plan = plan & settle_network_(settling, task)
        else:
            plan = plan & choose(recipe.chooser, current, groups, (scores, counts), facts)
            surgery.mask_(current, groups, plan)
        del found, facts, scores  # second moments are large
        shrunk = surgery.shrink(current, groups, plan, network, task.example_inputs)
        recipe.recovery(shrunk.model, surgery.small_masks(current, shrunk.model, groups, plan), task, model)
        surgery.scatter_(current, shrunk.model, groups, plan)
        small, is_last = shrunk.model, number == len(steps)
        yield Pruned(small, plan, (*added, *shrunk.repairs), current if is_last else copied(current), groups, step)
        if not is_last:
            surgery.scatter_(current, small, groups, plan)  # the user may have trained it meanwhile


def check_reach(recipe: Recipe, groups: Sequence[Group], sparsity: float, price: Price) -> None:
    """Refuse a sparsity that the allocation cannot give, whatever the scores are, in terms of what was asked.

    Raises:
        SecateursError: It leaves too little of some layer.
    """
    recipe.allocation(groups, {group.name: torch.zeros(()).expand(group.n_units) for group in groups}, sparsity, price)


def reach(recipe: Recipe, groups: Sequence[Group], price: Price) -> float:
    """The largest sparsity that the allocation can give, whatever the scores are; 1 where all but all can go.

    Raises:
        SecateursError: As the allocation, for what no sparsity mends.
    """
    try:
        check_reach(recipe, groups, NEARLY_ALL, price)
    except ReachError as error:
        return error.most
    return 1.0


def traced(model: nn.Module, example_inputs: Inputs, recipe: Recipe) -> Graph:
    """The trace of a network; with its operators where the recipe lets it be rewritten and that can be done.

    Raises:
        SecateursError: The forward pass fails.
    """
    network = trace(model, example_inputs)
    if recipe.rewrite:
        try:
            return recorded(network, model, example_inputs)
        except RewriteError as error:
            logger.warning("the network cannot be rewritten: %s", error)
    return network


def find_groups(
    model: nn.Module, structures: Sequence[Structure], network: Graph, example_inputs: Inputs
) -> tuple[Group, ...]:
    """The groups of all structures that can really be taken away, ranked together from here on.

    Those that cannot lose different shares may lose the same. Without weights nothing can be proven: all of them are
    given, with a warning.

    Raises:
        SecateursError: Nothing is left to prune, or two structures claim the same units.
    """
    groups = claimed(structures, network)
    reasons = dict[str, str]()
    if has_values(model):
        groups, reasons = trials.shrinkable(model, groups, network, example_inputs)
    else:
        logger.warning("the network has no weights: that its groups can be taken away is not proven by a forward pass")
    for name, reason in reasons.items():
        logger.warning("%s stays: %s", name, reason)
    if not groups:
        raise trials.nothing(structures, network, reasons)
    tell(structures, groups, network)
    return groups


def tell(structures: Sequence[Structure], groups: Sequence[Group], network: Graph) -> None:
    """Warn of what structures leave, and where a sparsity, one of what the groups have a part in, says little."""
    for line in (getattr(structure, "left", lambda _: "")(network) for structure in structures):
        if line:
            logger.warning(line)
    named = network.price(groups, "parameters").of({group.name: group.block for group in groups})
    share = named / max(1, network.parameters())
    if share < SMALL:
        logger.warning(
            "the recipe's structures name %.2g %% of the parameters, and a sparsity is one of these alone; "
            "`secateurs inspect` shows what else can go",
            100 * share,
        )


def claimed(structures: Sequence[Structure], network: Graph) -> tuple[Group, ...]:
    """The groups of all structures, whether they can really be taken away or not.

    Raises:
        SecateursError: There is none, two structures claim the same units, or what is to be kept is not there.
    """
    _check_keep(structures, network)
    found = tuple(group for structure in structures for group in structure(network))
    if len({group.name for group in found}) < len(found):
        raise SecateursError("two structures of the recipe claim the same units; name one of them only")
    if not found:
        raise trials.nothing(structures, network)
    return found


def _check_keep(structures: Sequence[Structure], network: Graph) -> None:
    """Refuse a pattern of ``keep`` that spares nothing: it would prune what the user wanted left alone."""
    names = [*network.dims, *(weight.name for weight in network.weights), *(it.name for it in network.residuals)]
    for structure in structures:
        for pattern in getattr(structure, "keep", ()):
            if not any(fnmatchcase(name, pattern) for name in names):
                near = get_close_matches(pattern, names, n=3, cutoff=0.4)
                mend = f"near it: {', '.join(near)}" if near else "`secateurs inspect` shows the names"
                kind = type(structure).__name__.lower()
                raise SecateursError(f"{kind}: keep {pattern!r} matches nothing of the network; {mend}")


def _biased(model: nn.Module, recipe: Recipe, start: Pruned) -> tuple[Biased, ...]:
    """The layers that have a bias from here on; a recovery that wants them to says so by an attribute ``adds_bias``."""
    if start.plan.keep:
        return tuple(repair for repair in start.repairs if isinstance(repair, Biased))
    return lacking(model, start.groups) if getattr(recipe.recovery, "adds_bias", False) else ()


def _scores(model: nn.Module, groups: Sequence[Group], recipe: Recipe, facts: Iterable[Facts], plan: Plan) -> Scores:
    """Every group's; what was dropped before ranks below everything."""
    scores = evidence.scored(evidence.named_tensors(model), groups, recipe.criterion, facts)
    return {name: without_dropped(score, plan.keep.get(name)) for name, score in scores.items()}
