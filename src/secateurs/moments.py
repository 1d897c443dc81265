"""Moments of what weights multiply, found below every module.

A dispatch mode sees each matrix product and convolution with the very parameter (or a view of it) as an operand, so a
transposed, sliced or tied weight needs no code of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from secateurs.types import Gram

aten = torch.ops.aten
TILE = 512
"""Columns of a matrix of products that are computed together; what lies below its diagonal is not."""
GROUPED = ("aten._grouped_mm", "transformers.grouped_mm_fallback")


def add_products_(sums: Tensor, x: Tensor) -> None:
    """Add ``x^T x``, on and above the diagonal alone: ``(i, i)`` sums of tokens ``(n, i)``; both float32."""
    for start in range(0, x.shape[1], TILE):
        rows = slice(start, start + TILE)
        sums[rows, start:].addmm_(x[:, rows].T, x[:, start:])


def mirrored_(sums: Tensor) -> Tensor:
    """What ``add_products_`` summed, whole; in the same memory."""
    return sums.copy_(sums.triu() + sums.triu(1).T)


class Moments(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's metaclass hook has no annotations
    """While open, sums powers of what each element of each parameter multiplies; padding of a convolution is nothing.

    Args:
        model: Whose parameters.
        powers: 2: the squares. (0, 1, 2): their number, the values and the squares, in double precision where the
            device has it, as a variance is the small difference of large numbers.
        products: Parameters of whose inputs the products are summed too, each feature with each, in float32.
        outputs: Parameters of which the squares of what they give are summed too, with the bias that is added in the
            same operator, as torch does.
    """

    def __init__(
        self,
        model: nn.Module,
        *powers: int,
        products: Collection[nn.Parameter] = (),
        outputs: Collection[nn.Parameter] = (),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._powers = powers
        self._products: dict[nn.Parameter, dict[int, Tensor]] = {parameter: {} for parameter in products}
        self._otherwise: set[nn.Parameter] = set()
        self._given: dict[nn.Parameter, dict[int, Tensor]] = {parameter: {} for parameter in outputs}
        self._sums: dict[int, dict[nn.Parameter, Tensor]] = {power: {} for power in powers}
        self._by_storage: dict[int, list[nn.Parameter]] = {}
        for parameter in (it for it in model.parameters() if not it.is_meta):
            self._by_storage.setdefault(parameter.untyped_storage().data_ptr(), []).append(parameter)

    def norm(self, parameter: nn.Parameter) -> Tensor | None:
        """L2 norm, float32; broadcasts to the parameter. None where it multiplied nothing."""
        squares = self._sums[2].get(parameter)
        return None if squares is None else squares.sqrt().float()

    def variance(self, parameter: nn.Parameter) -> Tensor | None:
        """``E[x^2] - E[x]^2``, float32, as ``norm``."""
        number, total, squares = (self._sums[power].get(parameter) for power in (0, 1, 2))
        if number is None or total is None or squares is None:
            return None
        number = number.clamp_min(1)
        return (squares / number - (total / number).square()).clamp_min(0).float()

    def grams(self, parameter: nn.Parameter) -> dict[int, Gram]:
        """By axis of a matrix: the second moments of what was summed over with it.

        A pass forward gives those of its inputs, by the axis that runs over them; a pass back those of the loss's
        gradient, by the axis of its outputs. None where it was also met otherwise than as the one matrix of all tokens.
        """
        found = {} if parameter in self._otherwise else self._products.get(parameter, {})
        return {axis: Gram(mirrored_(sums)) for axis, sums in found.items()}

    def output_norms(self, parameter: nn.Parameter) -> dict[int, Tensor]:
        """By axis of a matrix: the L2 norms of what it gives, along that axis, float32."""
        return {axis: sums.sqrt().float() for axis, sums in self._given.get(parameter, {}).items()}

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
        if self._given and packet in (aten.mm, aten.addmm):
            self._gave(args[-1], out)
            self._gave(args[-2].mT, out.mT)
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
            sent = left.any(-1, keepdim=True) if right.dim() > 2 else None  # of a batch of experts, zeros are no token
            for power in self._powers:
                taken = self._power(left, power)
                taken = taken if power or sent is None else taken * sent
                self._add(power, owner, right, taken.sum(-2).unsqueeze(-1))
            self._multiplied(owner, right, left)
        elif (owner := self._owner(left)) is not None:
            for power in self._powers:
                self._add(power, owner, left, self._power(right, power).sum(-1).unsqueeze(-2))
            self._multiplied(owner, left.mT, right.mT)

    def _multiplied(self, owner: nn.Parameter, matrix: Tensor, x: Tensor) -> None:
        """``x @ matrix``: add the products of features where the matrix is all of its parameter."""
        if owner not in self._products:
            return
        axis = _axis(owner, matrix, 0) if x.dim() == 2 else None
        if axis is None:
            self._otherwise.add(owner)
            return
        sums, size = self._products[owner], x.shape[1]
        if axis not in sums:
            sums[axis] = torch.zeros(size, size, device=x.device)
        add_products_(sums[axis], x.detach().float())

    def _gave(self, matrix: Tensor, rows: Tensor) -> None:
        """``x @ matrix = rows``: add the squares where the matrix is all of its parameter."""
        owner = self._owner(matrix)
        axis = None if owner not in self._given else _axis(owner, matrix, 1)
        if owner is not None and axis is not None:
            sums = rows.detach().float().square().sum(0).to(self._wide(rows))
            held = self._given[owner]
            held[axis] = held[axis] + sums if axis in held else sums

    def _grouped(self, rows: Tensor, matrices: Tensor, ends: Tensor) -> None:
        """Rows in stretches that end there, each times a matrix of its own."""
        if rows.dim() == 2 and (owner := self._owner(matrices)) is not None:
            self._otherwise.add(owner)
            for power in self._powers:
                taken = self._power(rows[: int(ends[-1])], power)
                which = torch.searchsorted(ends, torch.arange(len(taken), device=ends.device), right=True)
                sums = taken.new_zeros(len(matrices), taken.shape[1]).index_add_(0, which, taken)
                self._add(power, owner, matrices, sums.unsqueeze(-1))

    def _convolution(self, out: Tensor, args: tuple[Any, ...]) -> None:
        """The derivative by the weight of the sum of the outputs, at powers of inputs: the sum of these at each tap.

        It is the same for all output channels of a convolution group, so one of each is enough.
        """
        x, weight, _, stride, padding, dilation, transposed, output_padding, groups = args
        owner = self._owner(weight)
        if owner is None:
            return
        self._otherwise.add(owner)
        outputs = 1 if transposed else 0
        per_group = weight.shape[outputs] if transposed else weight.shape[outputs] // groups
        one_each = [*weight.shape]
        one_each[outputs] //= per_group
        options = (None, stride, padding, dilation, transposed, output_padding, groups, (False, True, False))
        for power in self._powers:
            given = self._power(x, power)
            ones = torch.ones_like(out[:, :1], dtype=given.dtype).expand(-1, groups, *out.shape[2:])
            like = torch.empty(one_each, dtype=given.dtype, device=weight.device)
            sums = aten.convolution_backward(ones, given, like, *options)[1]
            if not transposed and groups > 1:
                sums = sums.repeat_interleave(per_group, dim=0)
            self._add(power, owner, weight, sums)

    def _power(self, x: Tensor, power: int) -> Tensor:
        wide = self._wide(x) if len(self._powers) > 1 else torch.float32
        return x.detach().to(wide).pow(power)

    @staticmethod
    def _wide(x: Tensor) -> torch.dtype:
        return torch.float32 if x.device.type == "mps" else torch.float64

    def _add(self, power: int, owner: nn.Parameter, operand: Tensor, sums: Tensor) -> None:
        """Add sums, which broadcast to the operand, at the places that it takes in its parameter."""
        held, placed = self._sums[power], _placed(owner, operand, sums)
        held[owner] = held[owner] + placed if owner in held else placed


class Products(Moments):  # type: ignore[no-untyped-call]
    """While open, shows what whole matrices multiply in matrix products.

    Args:
        model: Whose parameters.
        meet: Called with a parameter and the rows that it multiplies, ``(n, features)``.
    """

    def __init__(self, model: nn.Module, meet: Callable[[nn.Parameter, Tensor], object]) -> None:
        super().__init__(model)
        self._meet = meet

    def _product(self, left: Tensor, right: Tensor) -> None:
        for matrix, rows in ((right, left), (left.mT, right.mT)):
            owner = self._owner(matrix)
            if owner is not None and matrix.dim() == 2 and matrix.numel() == owner.numel():
                self._meet(owner, rows)


def _axis(owner: Tensor, matrix: Tensor, dim: int) -> int | None:
    """The axis of a parameter that a dimension of the matrix is; None where the matrix is not all of it."""
    laid = list(zip(owner.shape, owner.stride(), strict=True))
    mine = (matrix.shape[dim], matrix.stride(dim))
    whole = owner.dim() == 2 and matrix.numel() == owner.numel() and mine in laid
    return laid.index(mine) if whole else None


def _placed(owner: Tensor, operand: Tensor, sums: Tensor) -> Tensor:
    """From the axes of a view to the axes of its parameter; as small as broadcasting allows where it is all of it."""
    axes, places = _layout(owner), _layout(operand)
    if sorted(axes) == sorted(places):
        left = list(range(len(places)))
        order = []
        for axis in axes:
            order.append(next(i for i in left if places[i] == axis))
            left.remove(order[-1])
        return sums.permute(order)
    for i, stride in enumerate(operand.stride()):
        if stride == 0 and operand.shape[i] > 1:  # one weight shared along a batch axis
            operand, sums = operand.narrow(i, 0, 1), sums.expand(operand.shape).sum(i, keepdim=True)
    size = owner.untyped_storage().nbytes() // owner.element_size()
    full = torch.zeros(size, dtype=sums.dtype, device=owner.device)
    full.as_strided(operand.shape, operand.stride(), operand.storage_offset()).add_(sums)
    return full.as_strided(owner.shape, owner.stride(), owner.storage_offset()).clone()


def _layout(tensor: Tensor) -> list[tuple[int, int]]:
    return [(size, stride if size > 1 else 0) for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
