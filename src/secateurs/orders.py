"""The input features of a weight in another order, such that N:M keeps more of it; what writes them takes the same.

N of M neighbours stay, so it matters who the neighbours are. Where features are the positions of a dim that this weight
alone reads (the neurons between two layers, the positions inside the heads of values), the rows that write them are
put in the same order: the network computes the same, and nothing is shuffled when it runs. The order is that of Zhang
et al. 2024 (Plug-and-Play: An Efficient Post-training Pruning Method for Large Language Models, ICLR): channels are
dealt out to the blocks by their sums of scores; then one channel of each block after the other is taken out, and those
are assigned anew such that the scores kept are the most (a linear sum assignment, Kuhn 1955).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from secateurs.types import Group, Member, Network

ENTRIES = 1 << 24
"""Of the differences that are looked at together."""


@dataclass(frozen=True, eq=False)
class Order:
    """The features of a weight that can be put in another order.

    Args:
        members: Of the dim: everything that carries it.
        places: ``(o, n, k)``: feature of the weight at each position, of k places each; only inside one of o others,
            as the positions inside of heads are, may positions change places.
    """

    members: tuple[Member, ...]
    places: Tensor

    def moves(self, best: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[str, int, Tensor]]:
        """Tensors, the axis along which each is put in order, and the order: ``(size of the axis,)``.

        Args:
            best: ``(o, n)``, which of the n positions comes to be at each.
            shapes: Of the tensors.
        """
        units = (best + torch.arange(len(best))[:, None] * best.shape[1]).flatten()
        found = []
        for member in self.members:
            (axis,) = member.dims
            every = torch.arange(shapes[member.tensor][axis])
            index = every[:, None] if member.index is None else member.index.cpu()
            order = every.index_copy(0, index.flatten(), index[units].flatten())
            found.append((member.tensor, axis, order))
        return found


def orders(network: Network, groups: Mapping[str, Group]) -> dict[str, Order]:
    """The weights whose features can be put in another order.

    Args:
        network: The trace.
        groups: Those of single weights that are settled, by the weight's name.

    Returns:
        Name of a weight -> how; only of those in which few neighbours compete, and whose features nothing else reads.
    """
    inputs = {weight.name: weight.inputs[0] for weight in network.weights if len(weight.shape) == 2}
    holders = {name.rpartition(".")[0] for name in groups}
    found: dict[str, Order] = {}
    for dim in network.dims.values():
        if dim.frozen is not None:
            continue
        for name, axis in inputs.items():
            if f"{name}[{axis}]" not in dim.carriers or name not in groups:
                continue
            outer = network.enclosing(dim.name)
            members = network.members(*([outer] if outer else []), dim.name)
            sizes = (network.dims[outer].size if outer else 1, dim.size)
            order = _order((name, axis), members, sizes, groups[name].block)
            if order is not None and all(it.tensor.rpartition(".")[0] in holders for it in members):
                found[name] = order
    return found


def _order(reader: tuple[str, int], members: tuple[Member, ...], sizes: tuple[int, int], block: int) -> Order | None:
    """Where neighbours in the dim are neighbours in the weight, and it alone reads them."""
    (name, axis), (outer, size) = reader, sizes
    readers = [member for member in members if member.reads]
    if [(it.tensor, it.dims) for it in readers] != [(name, (axis,))] or any(len(it.dims) != 1 for it in members):
        return None
    if not 1 < block < size or size % block:
        return None
    index = readers[0].index
    places = torch.arange(outer * size)[:, None] if index is None else index.cpu()
    places = places.reshape(-1, size, places.shape[1])
    starts = places[:, :1]
    in_a_row = torch.equal(places, starts + torch.arange(size)[None, :, None])
    return Order(members, places) if in_a_row and not (starts % block).any() else None


def best_order(scores: Tensor, block: int, kept: int) -> Tensor:
    """In which order columns should stand, such that the best of each row's blocks sum up to the most.

    Args:
        scores: ``(r, n)``.
        block: Columns of a block; divides n.
        kept: Of each block in each row; fewer than the block.

    Returns:
        ``(n,)``; as they are where no better order was found.
    """
    n = scores.shape[1]
    dealt = scores.sum(dim=0).argsort(descending=True).view(block, -1)
    dealt[1::2] = dealt[1::2].flip(1)
    found = dealt.T.contiguous()
    for position in range(block):
        found[:, position] = _assigned(scores, found, position, kept)
    order = found.flatten()
    better = _retained(scores[:, order], block, kept) > _retained(scores, block, kept)
    return order.cpu() if better else torch.arange(n)


def _assigned(scores: Tensor, blocks: Tensor, position: int, kept: int) -> Tensor:
    """Which column should stand at this position of every block, of those that do now: ``(n // block,)``."""
    from scipy.optimize import linear_sum_assignment

    mine = blocks[:, position]
    others = torch.cat((blocks[:, :position], blocks[:, position + 1 :]), dim=1)
    least = scores[:, others].topk(kept, dim=2).values[..., -1]  # what a newcomer must be better than: (r, blocks)
    columns = scores[:, mine]
    at_once = max(1, ENTRIES // columns.numel())
    gains = [(columns[:, None] - some[:, :, None]).clamp_min_(0).sum(0) for some in torch.split(least, at_once, dim=1)]
    _, chosen = linear_sum_assignment(torch.cat(gains).cpu().numpy(), maximize=True)
    return mine[torch.as_tensor(chosen, device=mine.device)]


def _retained(scores: Tensor, block: int, kept: int) -> float:
    return float(scores.reshape(len(scores), -1, block).topk(kept, dim=2).values.sum(dtype=torch.float64))
