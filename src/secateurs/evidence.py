"""One pass over the calibration data: what the criteria need -> facts -> scores."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from secateurs.moments import Moments
from secateurs.rows import reads_units, rows_of
from secateurs.types import Batch, Criterion, Facts, Gram, Group, Need, Scores, SecateursError, Task, name_before
from secateurs.units import Influence, without

logger = logging.getLogger("secateurs.evidence")


def facts(
    model: nn.Module, task: Task, needs: frozenset[Need], batches: int, groups: Sequence[Group] = ()
) -> Iterator[Facts]:
    """Collect what is needed over the first batches of the train split; weights, buffers and modes stay as they are.

    Args:
        model: Run in eval mode: dropout is off, and batch norm keeps its statistics.
        task: Its ``loss`` runs the model.
        needs: ``gradient``: one batch's mean loss by every parameter; one Facts per batch. ``activation_norm`` and
            ``activation_variance``: of the input that each weight multiplies, over all these batches; positions that
            are padding count. ``influence``: of the blocks among the groups. ``loss_increase``: the mean loss without
            each unit of the groups, one after the other, less the mean loss. Without ``gradient`` exactly one Facts is
            yielded. ``gram``: of the inputs of the matrices that read the units of groups; ``gradient_gram``: of the
            loss's gradient by their outputs. ``product_norm``: norms of the outputs of matrices that give the factors
            of products of activations, which are summed over the units.
        batches: At most this many batches are used.
        groups: Whose units ``influence``, ``loss_increase``, ``gram`` and ``product_norm`` are of.

    Raises:
        SecateursError: There is no train split, it is empty, or the loss of a batch is not finite; influence is asked
            of what is no block.
    """
    with undisturbed(model) if needs - {"weight"} else nullcontext():
        found = _observed(model, task, needs, batches, groups)
        if "loss_increase" in needs:
            found = replace(found, loss_increase=_increases(model, task, batches, groups))
        if needs & {"gram", "gradient_gram", "product_norm"}:
            gram, output_norm = _grams(model, task, needs, batches, groups)
            found = replace(found, gram=gram, output_norm=output_norm)
        if "gradient" not in needs:
            yield found
            return
        for number, batch in calibration(task, batches, "gradients"):
            yield replace(found, gradient=_gradients(model, task, batch, number))


def scores(model: nn.Module, groups: Sequence[Group], criterion: Criterion, task: Task, batches: int) -> Scores:
    """Score every unit of every group: the mean of the criterion over the facts.

    Args:
        model: The network that the groups belong to.
        groups: What can go.
        criterion: What a unit is worth.
        task: Calibration data and loss.
        batches: Batches of the train split used.

    Returns:
        Group name -> ``(n_units,)`` float scores on the CPU, higher = keep.

    Raises:
        SecateursError: As ``facts``; a weight is not finite; a group has no member to look at; the criterion gives
            scores of the wrong shape, or some that are not a number.
    """
    return scored(named_tensors(model), groups, criterion, facts(model, task, criterion.needs, batches, groups))


def scored(
    tensors: Mapping[str, Tensor], groups: Sequence[Group], criterion: Criterion, found: Iterable[Facts]
) -> Scores:
    """``scores``, of tensors and facts that are at hand."""
    _check_finite(groups, tensors)
    totals: dict[str, Tensor] = {}
    n = 0
    for n, each in enumerate(found, start=1):
        for group in groups:
            with torch.no_grad():
                score = _score(group, criterion, tensors, each)
            totals[group.name] = totals[group.name] + score if n > 1 else score
    return {name: (total / n).cpu() for name, total in totals.items()}


# ------------------------------------------------------------------------------------------------------ scoring


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer under all of its names."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that no score can be made of.

    Raises:
        SecateursError: One of them holds NaN or infinite values.
    """
    for name, tensor in tensors.items():
        weight = tensor.detach()
        if not (weight.sum().isfinite() or weight.isfinite().all()):  # an infinite sum may be an overflow
            raise SecateursError(f"{name} holds NaN or infinite weights; give a model whose weights are finite")


def _check_finite(groups: Sequence[Group], tensors: Mapping[str, Tensor]) -> None:
    for group in groups:
        if not any(member.scored for member in group.members):
            raise SecateursError(f"{group.name} has no weight to score; keep it out of the structure")
    for name, owner in {m.tensor: group.name for group in groups for m in group.members if m.scored}.items():
        if name not in tensors:
            raise SecateursError(f"{owner} names '{name}', which the model does not have; trace this model")
        check_finite({name: tensors[name]})


def _score(group: Group, criterion: Criterion, tensors: Mapping[str, Tensor], found: Facts) -> Tensor:
    try:
        score = torch.cat([criterion(rows) for rows in rows_of(group, tensors, found)])
    except SecateursError as error:
        raise SecateursError(f"{group.name}: {error}") from error
    if score.shape != (group.n_units,):
        raise SecateursError(f"{criterion} gave {group.name} scores of shape {tuple(score.shape)}, not one per unit")
    if score.isnan().any():
        raise SecateursError(f"{criterion} gave {group.name} scores that are not a number; look at its gradients")
    return score if score.dtype == torch.float64 else score.float()


# ------------------------------------------------------------------------------------------------------- passes


def calibration(task: Task, batches: int, what: str) -> Iterator[tuple[int, Batch]]:
    """The first batches of the train split, numbered from 1; says how far it is once a second."""
    if "train" not in task.splits:
        raise SecateursError(f"task {task.name} has no split 'train' to calibrate on; it has {', '.join(task.splits)}")
    number, told = 0, time.monotonic()
    for number, batch in enumerate(itertools.islice(task.splits["train"], batches), start=1):
        yield number, batch
        if time.monotonic() - told > 1:
            told = time.monotonic()
            logger.info("%s: batch %d of %d", what, number, batches)
    if not number:
        raise SecateursError(f"task {task.name}: split 'train' is empty; calibration needs at least one batch")


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Eval mode, every parameter open to gradients, no fused attention kernels; all put back at the end."""
    modes = {module: module.training for module in model.modules()}
    asked = {p: p.requires_grad for p in model.parameters() if p.is_floating_point()}
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        model.eval()
        for parameter in asked:
            parameter.requires_grad_(True)
        torch.backends.mha.set_fastpath_enabled(False)  # one operator for a whole layer would hide its products
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for parameter, required in asked.items():
            parameter.requires_grad_(required)
        for module, training in modes.items():
            module.training = training


def _gradients(model: nn.Module, task: Task, batch: Batch, number: int) -> dict[str, Tensor]:
    named = {n: p for n, p in model.named_parameters(remove_duplicate=False) if p.is_floating_point()}
    parameters = list(dict.fromkeys(named.values()))
    with torch.enable_grad():
        loss = task.loss(model, batch)
        _check_loss(loss, number)
        if not loss.requires_grad:
            raise SecateursError("the loss has no gradient; it must be computed from the model, outside no_grad")
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    by_parameter = dict(zip(parameters, found, strict=True))
    return {name: by_parameter[parameter] for name, parameter in named.items()}


def _check_loss(loss: Tensor, number: int) -> None:
    if loss.numel() != 1 or not bool(loss.isfinite()):
        got = loss.item() if loss.numel() == 1 else f"of shape {tuple(loss.shape)}"
        raise SecateursError(f"the loss of calibration batch {number} is {got}; it must be one finite number")


def _observed(model: nn.Module, task: Task, needs: frozenset[Need], batches: int, groups: Sequence[Group]) -> Facts:
    """What is seen in one pass forward; none where nothing of it is needed."""
    norm, variance, influence = (n in needs for n in ("activation_norm", "activation_variance", "influence"))
    if not (norm or variance or influence):
        return Facts()
    powers = (0, 1, 2) if variance else (2,)
    with ExitStack() as open_:
        moments = Moments(model, *powers if norm or variance else ())
        changes = open_.enter_context(Influence(model, groups if influence else ()))
        for number, batch in calibration(task, batches, "activations"):
            with torch.no_grad(), moments:
                loss = task.loss(model, batch)
            _check_loss(loss, number)

    single = {member.tensor for group in groups if not group.removable for member in group.members}

    def each(of: Callable[[nn.Parameter], Tensor | None]) -> dict[str, Tensor]:
        found = {name: of(p) for name, p in model.named_parameters(remove_duplicate=False)}
        known = {name: fact for name, fact in found.items() if fact is not None}
        unmet = (it for it in model.named_parameters() if it[0] in single and it[0] not in known)
        return known | {name: torch.zeros([1] * p.dim(), device=p.device) for name, p in unmet}

    return Facts(
        activation_norm=each(moments.norm) if norm else {},
        activation_variance=each(moments.variance) if variance else {},
        influence=changes.found(),
    )


def _grams(
    model: nn.Module, task: Task, needs: frozenset[Need], batches: int, groups: Sequence[Group]
) -> tuple[dict[str, Gram], dict[str, Tensor]]:
    """By ``name[axis]``, of the weights that read the units of groups; the norms of what gives units that meet."""
    reads = {member.tensor for group in groups for member in group.members if reads_units(group, member)}
    gives = {side.tensor for group in groups for meeting in group.meetings for side in meeting}
    readers = _parameters(model, reads if needs & {"gram", "gradient_gram"} else set())
    givers = _parameters(model, gives if "product_norm" in needs else set())
    if not readers and not givers:
        return {}, {}
    moments = Moments(model, products=readers.values(), outputs=givers.values())
    for number, batch in calibration(task, batches, "second moments"):
        with moments:
            if "gradient_gram" in needs:
                _gradients(model, task, batch, number)
            else:
                with torch.no_grad():
                    _check_loss(task.loss(model, batch), number)
    return (
        {f"{name}[{axis}]": gram for name, p in readers.items() for axis, gram in moments.grams(p).items()},
        {f"{name}[{axis}]": norm for name, p in givers.items() for axis, norm in moments.output_norms(p).items()},
    )


def _parameters(model: nn.Module, dense: Collection[str]) -> dict[str, nn.Parameter]:
    """The parameters that had these names in the dense network, by those that they have."""
    named = model.named_parameters(remove_duplicate=False)
    return {name: parameter for name, parameter in named if name_before(model, name) in dense}


def _increases(model: nn.Module, task: Task, batches: int, groups: Sequence[Group]) -> dict[str, Tensor]:
    """The mean loss without a unit, less the mean loss, on the same batches; 0 for a unit that is gone already."""
    same = list(calibration(task, batches, "batches to take units away on"))
    tensors, told = named_tensors(model), time.monotonic()

    def mean_loss() -> float:
        with torch.no_grad():
            losses = [task.loss(model, batch) for _, batch in same]
        for (number, _), loss in zip(same, losses, strict=True):
            _check_loss(loss, number)
        return sum(float(loss) for loss in losses) / len(losses)

    whole = mean_loss()
    found = {}
    for group in groups:
        increases = torch.zeros(group.n_units)
        for unit in range(group.n_units):
            with without(tensors, group, unit) as changed:
                increases[unit] = mean_loss() - whole if changed else 0.0
            if time.monotonic() - told > 1:
                told = time.monotonic()
                logger.info("loss without units: %s, %d of %d", group.name, unit + 1, group.n_units)
        found[group.name] = increases
    return found
