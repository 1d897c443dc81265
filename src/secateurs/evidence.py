"""One pass over the calibration data: what the criteria need -> facts -> scores.

Input norms are found below every module: a dispatch mode sees each matrix product and convolution with the very
parameter (or a view of it) as an operand, so a transposed, sliced or tied weight needs no code of its own.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from secateurs.types import Batch, Criterion, Facts, Group, Member, Need, Rows, Scores, SecateursError, Task

logger = logging.getLogger("secateurs.evidence")
aten = torch.ops.aten
GROUPED = ("aten._grouped_mm", "transformers.grouped_mm_fallback")


def facts(model: nn.Module, task: Task, needs: frozenset[Need], batches: int) -> Iterator[Facts]:
    """Collect what is needed over the first batches of the train split; weights, buffers and modes stay as they are.

    Args:
        model: Run in eval mode: dropout is off, and batch norm keeps its statistics.
        task: Its ``loss`` runs the model.
        needs: ``gradient``: one batch's mean loss by every parameter; one Facts per batch. ``activation_norm``: of the
            input that each weight multiplies, over all these batches; positions that are padding count. Without
            ``gradient`` exactly one Facts is yielded.
        batches: At most this many batches are used.

    Raises:
        SecateursError: There is no train split, it is empty, or the loss of a batch is not finite.
    """
    norms: Mapping[str, Tensor] = {}
    with _undisturbed(model):
        if "activation_norm" in needs:
            norms = _norms(model, task, batches)
        if "gradient" not in needs:
            yield Facts(activation_norm=norms)
            return
        for number, batch in _calibration(task, batches, "gradients"):
            yield Facts(_gradients(model, task, batch, number), norms)


def scores(
    model: nn.Module,
    groups: Sequence[Group],
    criterion: Criterion,
    task: Task,
    batches: int,
    found: Iterable[Facts] | None = None,
) -> Scores:
    """Score every unit of every group: the mean of the criterion over the facts.

    Args:
        model: The network that the groups belong to.
        groups: What can go.
        criterion: What a unit is worth.
        task: Calibration data and loss.
        batches: Batches of the train split used.
        found: The facts, where they were collected elsewhere; of the model itself otherwise.

    Returns:
        Group name -> ``(n_units,)`` float scores on the CPU, higher = keep.

    Raises:
        SecateursError: As ``facts``; a weight is not finite; a group has no member to look at; the criterion gives
            scores of the wrong shape, or some that are not a number.
    """
    tensors = _tensors(model)
    _check_finite(groups, tensors)
    totals: dict[str, Tensor] = {}
    n = 0
    for n, each in enumerate(facts(model, task, criterion.needs, batches) if found is None else found, start=1):
        for group in groups:
            with torch.no_grad():
                score = _score(group, criterion, tensors, each)
            totals[group.name] = totals[group.name] + score if n > 1 else score
    return {name: (total / n).cpu() for name, total in totals.items()}


# ------------------------------------------------------------------------------------------------------ scoring


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer under all of its names."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


def _check_finite(groups: Sequence[Group], tensors: Mapping[str, Tensor]) -> None:
    for group in groups:
        if not any(member.scored for member in group.members):
            raise SecateursError(f"{group.name} has no weight to score; keep it out of the structure")
    for name, owner in {m.tensor: group.name for group in groups for m in group.members if m.scored}.items():
        if name not in tensors:
            raise SecateursError(f"{owner} names '{name}', which the model does not have; trace this model")
        weight = tensors[name].detach()
        if not (weight.sum().isfinite() or weight.isfinite().all()):  # an infinite sum may be an overflow
            raise SecateursError(f"{name} holds NaN or infinite weights; give a model whose weights are finite")


def _score(group: Group, criterion: Criterion, tensors: Mapping[str, Tensor], found: Facts) -> Tensor:
    """All units at once; layers, which have no tensor in common, one by one."""
    by_unit: dict[int | None, list[Rows]] = {}
    for member in group.members:
        if member.scored:
            by_unit.setdefault(member.unit, []).append(_rows(member, tensors[member.tensor], found))
    score = torch.cat([criterion(by_unit[unit]) for unit in sorted(by_unit, key=lambda unit: unit or 0)])
    if score.shape != (group.n_units,):
        raise SecateursError(f"{criterion} gave {group.name} scores of shape {tuple(score.shape)}, not one per unit")
    if score.isnan().any():
        raise SecateursError(f"{criterion} gave {group.name} scores that are not a number; look at its gradients")
    return score if score.dtype == torch.float64 else score.float()


def _rows(member: Member, weight: Tensor, found: Facts) -> Rows:
    gradient, norm = found.gradient.get(member.tensor), found.activation_norm.get(member.tensor)
    return Rows(
        member.cut(weight.detach()),
        None if gradient is None else member.cut(gradient),
        None if norm is None else member.cut(norm.expand(weight.shape)),
    )


# ------------------------------------------------------------------------------------------------------- passes


def _calibration(task: Task, batches: int, what: str) -> Iterator[tuple[int, Batch]]:
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
def _undisturbed(model: nn.Module) -> Iterator[None]:
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


def _norms(model: nn.Module, task: Task, batches: int) -> dict[str, Tensor]:
    mode = _InputNorms(model)
    for number, batch in _calibration(task, batches, "input norms"):
        with torch.no_grad(), mode:
            loss = task.loss(model, batch)
        _check_loss(loss, number)
    names = model.named_parameters(remove_duplicate=False)
    return {name: mode.squares[p].sqrt() for name, p in names if p in mode.squares}


# ------------------------------------------------------------------------------------------------- input norms


class _InputNorms(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's metaclass hook has no annotations
    """Sums, for every parameter that multiplies something, the squares of what each of its elements multiplies."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.squares: dict[nn.Parameter, Tensor] = {}
        self._by_storage: dict[int, list[nn.Parameter]] = {}
        for parameter in model.parameters():
            self._by_storage.setdefault(parameter.untyped_storage().data_ptr(), []).append(parameter)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = getattr(func, "overloadpacket", None)
        if packet in (aten.mm, aten.bmm):
            self._product(args[0], args[1])
        elif packet in (aten.addmm, aten.baddbmm):
            self._product(args[1], args[2])
        elif packet is aten.convolution:
            self._convolution(out, args)
        elif str(packet) in GROUPED:
            self._grouped(args[0], args[1], args[2] if len(args) > 2 else (kwargs or {})["offs"])
        return out

    def _owner(self, tensor: Tensor) -> nn.Parameter | None:
        """The parameter that a tensor is, or is a view of."""
        at = tensor.storage_offset()
        for parameter in self._by_storage.get(tensor.untyped_storage().data_ptr(), ()):
            if parameter.storage_offset() <= at < parameter.storage_offset() + parameter.numel():
                return parameter
        return None

    def _product(self, left: Tensor, right: Tensor) -> None:
        """A product ``(..., n, k) @ (..., k, m)``: an element of one side meets a column or a row of the other."""
        if (owner := self._owner(right)) is not None:
            self._add(owner, right, _squares(left).sum(-2).unsqueeze(-1))
        elif (owner := self._owner(left)) is not None:
            self._add(owner, left, _squares(right).sum(-1).unsqueeze(-2))

    def _grouped(self, rows: Tensor, matrices: Tensor, ends: Tensor) -> None:
        """Rows in stretches that end there, each times a matrix of its own."""
        if rows.dim() == 2 and (owner := self._owner(matrices)) is not None:
            taken = _squares(rows[: int(ends[-1])])
            which = torch.searchsorted(ends, torch.arange(len(taken), device=ends.device), right=True)
            sums = taken.new_zeros(len(matrices), taken.shape[1]).index_add_(0, which, taken)
            self._add(owner, matrices, sums.unsqueeze(-1))

    def _convolution(self, out: Tensor, args: tuple[Any, ...]) -> None:
        """The derivative by the weight of the sum of the outputs, at squared inputs: the sum of squares at each tap.

        It is the same for all output channels of a convolution group, so one of each is enough.
        """
        x, weight, _, stride, padding, dilation, transposed, output_padding, groups = args
        owner = self._owner(weight)
        if owner is None:
            return
        outputs = 1 if transposed else 0
        per_group = weight.shape[outputs] if transposed else weight.shape[outputs] // groups
        one_each = [*weight.shape]
        one_each[outputs] //= per_group
        ones = torch.ones_like(out[:, :1], dtype=torch.float32).expand(-1, groups, *out.shape[2:])
        options = (None, stride, padding, dilation, transposed, output_padding, groups, (False, True, False))
        like = torch.empty(one_each, dtype=torch.float32, device=weight.device)
        squares = aten.convolution_backward(ones, _squares(x), like, *options)[1]
        if not transposed and groups > 1:
            squares = squares.repeat_interleave(per_group, dim=0)
        self._add(owner, weight, squares)

    def _add(self, owner: nn.Parameter, operand: Tensor, squares: Tensor) -> None:
        """Add sums of squares, which broadcast to the operand, at the places that it takes in its parameter."""
        placed = _placed(owner, operand, squares)
        before = self.squares.get(owner)
        self.squares[owner] = placed if before is None else before + placed


def _squares(x: Tensor) -> Tensor:
    return x.detach().float().square()


def _placed(owner: Tensor, operand: Tensor, squares: Tensor) -> Tensor:
    """From the axes of a view to the axes of its parameter; as small as broadcasting allows where it is all of it."""
    axes, places = _layout(owner), _layout(operand)
    if sorted(axes) == sorted(places):
        left = list(range(len(places)))
        order = []
        for axis in axes:
            order.append(next(i for i in left if places[i] == axis))
            left.remove(order[-1])
        return squares.permute(order)
    for i, stride in enumerate(operand.stride()):
        if stride == 0 and operand.shape[i] > 1:  # one weight shared along a batch axis
            operand, squares = operand.narrow(i, 0, 1), squares.expand(operand.shape).sum(i, keepdim=True)
    full = torch.zeros(owner.untyped_storage().nbytes() // owner.element_size(), device=owner.device)
    full.as_strided(operand.shape, operand.stride(), operand.storage_offset()).add_(squares)
    return full.as_strided(owner.shape, owner.stride(), owner.storage_offset()).clone()


def _layout(tensor: Tensor) -> list[tuple[int, int]]:
    return [(size, stride if size > 1 else 0) for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
