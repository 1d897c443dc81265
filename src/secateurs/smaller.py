"""The network that a checkpoint becomes, one block of it at a time: made from a config, proven, and healed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from secateurs.blocks import Calls, Chain
from secateurs.blockwise import Blockwise, move_buffers_
from secateurs.checkpoint import Writer
from secateurs.checkpoint.checkpoint import give_
from secateurs.graph.agreement import Reference
from secateurs.stream import Going
from secateurs.types import Inputs, Recovery, Task, name_before

POSITIONS = 32
"""Of one example, on which a block is proven."""


@dataclass(frozen=True)
class At:
    """A block of the dense network that is in place, and the batches, which stand before it.

    Args:
        name: Of the block.
        chain: Number of its chain.
        position: In the chain.
        block: Itself.
        going: The batches.
        before: For each of them, the chains that ran earlier.
    """

    name: str
    chain: int
    position: int
    block: nn.Module
    going: Sequence[Going]
    before: Sequence[Sequence[tuple[Calls, Tensor]]]

    def look(self) -> None:
        """Run the block for the batches for which it has not run yet."""
        for each in self.going:
            if not each.after:
                each.look(self.position, self.block)


def visited(disk: Blockwise, batches: Sequence[Inputs]) -> Iterator[At]:
    """Each block of the dense network in turn; when the next is asked for, the batches go on.

    Args:
        disk: At work.
        batches: Those that are run.
    """
    before: list[list[tuple[Calls, Tensor]]] = [[] for _ in batches]
    for number, chain in enumerate(disk.chains):
        with disk.around():
            pairs = zip(batches, before, strict=True)
            going = [Going.into(disk.network, chain, inputs, done, disk.shelf) for inputs, done in pairs]
        for position, name in enumerate(chain.blocks):
            with disk.dense(name):
                if disk.shelf is not None:
                    disk.shelf.spare(disk.network)
                at = At(name, number, position, disk.network.get_submodule(name), going, before)
                yield at
                at.look()
                for each in going:
                    each.on()
        for each, done in zip(going, before, strict=True):
            done.append((each.calls, each.here()[0]))


def brief(inputs: Inputs) -> Inputs:
    """One example of a batch, of ids no more than a few; all of the batch where it is not told how to cut it."""
    tensors = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]
    if any(it.dim() == 0 for it in tensors) or len({len(it) for it in tensors}) > 1:
        return inputs
    ids = all(it.dim() == 2 and not it.is_floating_point() for it in tensors)
    cut: Inputs = tree_map(
        lambda it: it if not isinstance(it, Tensor) else it[:1, :POSITIONS] if ids else it[:1], inputs
    )
    return cut


class Called(nn.Module):
    """A block as a network whose inputs are what it is called with: by position, and by name."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What the block returns."""
        return self.block(*args, **kwargs)


@dataclass
class Smaller:
    """The smaller network, on the meta device but for the block that is made.

    Args:
        disk: It, with a batch that proves it and those that heal it.
        changes: Of the config, from which it was made.
        names: Of its tensors -> those that they have in the dense network.
        blocks: Names of the dense network's blocks -> its own.
        drifts: Whether batches that heal it go through it, and meet what was made of the blocks before; if not, each
            block is given what the dense one is given.
        proven: Whether a block of it computed what it should.
        going: The batches, as they go through it.
        earlier: For each of them, the chains that ran earlier.
    """

    disk: Blockwise
    changes: Mapping[str, Any]
    names: Mapping[str, str]
    blocks: Mapping[str, str]
    drifts: bool = False
    proven: bool = False
    going: list[Going] = field(default_factory=list)
    earlier: list[list[tuple[Calls, Tensor]]] = field(default_factory=list)

    @classmethod
    def of(cls, dense: Blockwise, closed: nn.Module, changes: Mapping[str, Any], *, drifts: bool) -> Smaller:
        """Made from a config.

        Args:
            dense: At work, with the batches that are run through the smaller network.
            closed: What knows how its modules and tensors were called before.
            changes: Fields of the config that are other than the dense network's.
            drifts: As above.
        """
        network = dense.source.empty(changes)
        move_buffers_(network, dense.device)
        modules = {name_before(closed, name): name for name, _ in closed.named_modules()}
        blocks = {name: modules[name] for name in dense.blocks if name in modules}
        chains = [Chain(it.name, tuple(blocks[name] for name in it.blocks if name in blocks)) for it in dense.chains]
        names = {name: name_before(closed, name) for name in network.state_dict()}
        return cls(replace(dense, network=network, chains=chains), changes, names, blocks, drifts)

    def enter(self, at: At) -> None:
        """Stand before the first block of a chain, as the dense network does."""
        if not at.chain:
            self.earlier = [[] for _ in self.disk.batches]
        for number, (done, each, theirs) in enumerate(zip(self.earlier, self.going, at.before, strict=False)):
            own = self.drifts and number
            done.append((each.calls, each.here()[0] if own else theirs[-1][1]))
        chain, pairs = self.disk.chains[at.chain], zip(self.disk.batches, self.earlier, strict=True)
        with self.disk.around():
            self.going = [Going.into(self.disk.network, chain, it, done, self.disk.shelf) for it, done in pairs]

    def put_(self, at: At, tensors: Mapping[str, Tensor]) -> None:
        """Put a block in place; biases that no tensor is given for are zero.

        Args:
            at: Its place in the dense network.
            tensors: By their names in the dense network.
        """
        first = next(iter(tensors.values()))
        for name, old in self._held(at).items():
            given = tensors.get(self.names[name])
            given = torch.zeros(old.shape, dtype=first.dtype, device=first.device) if given is None else given
            give_(self.disk.network, name, given, str(self.disk.source.path))

    def problem(self, at: At, wanted: Reference) -> str:
        """What is wrong with what the block in place computes; empty where nothing is."""
        inputs = self.going[0].calls.arguments(self._position(at), at.going[0].here())
        said = replace(wanted, inputs=inputs).difference(Called(self._block(at)))
        at.going[0].lay()
        return said

    def heal_(self, at: At, recovery: Recovery) -> None:
        """Heal the block in place beside the dense one, which is in place too."""
        ours = _Side(self._block(at), self._position(at), self.going, self.going if self.drifts else at.going)
        theirs = _Side(at.block, at.position, at.going, at.going)
        numbers, unknown = range(1, len(self.going)), cast(Any, None)
        task = Task(at.name, {}, {"train": numbers}, lambda side, number: side(number), unknown, unknown)
        recovery(ours, {}, task, theirs)
        for each in (*at.going[: len(self.going)], *self.going):
            each.lay()

    def on(self, at: At) -> None:
        """Let the batches that go through it go on, with the block in place."""
        for each in self.going[1:] if self.drifts else ():
            each.look(self._position(at), self._block(at))
            each.on()

    def written(self, at: At, writer: Writer) -> None:
        """Put a block in place that was written before, and go on."""
        if self.drifts:
            writer.load_(at.name, self.disk.network, device=self.disk.device)
            self.on(at)
            self.away_(at)

    def away_(self, at: At) -> None:
        """Free the memory of the block."""
        self._block(at).to("meta")

    def state(self, at: At) -> dict[str, Tensor]:
        """The tensors of the block, by their names in this network."""
        return {name: tensor.detach() for name, tensor in self._held(at).items()}

    def _held(self, at: At) -> dict[str, Tensor]:
        name = self.blocks[at.name]
        return dict(self._block(at).state_dict(prefix=f"{name}.", keep_vars=True))

    def _block(self, at: At) -> nn.Module:
        return self.disk.network.get_submodule(self.blocks[at.name])

    def _position(self, at: At) -> int:
        return self.disk.chains[at.chain].blocks.index(self.blocks[at.name])


class _Side(nn.Module):
    """One of two networks of one block, run by the number of a batch; the stream behind the block is read."""

    def __init__(self, block: nn.Module, position: int, going: Sequence[Going], given: Sequence[Going]) -> None:
        super().__init__()
        self.block, self.end = block, _End()
        self.position, self.going, self.given = position, going, given

    def forward(self, number: int) -> Tensor:
        """Run it."""
        args, kwargs = self.going[number].calls.arguments(self.position, self.given[number].here())
        out = self.block(*args, **kwargs)
        self.end(out[0] if isinstance(out, tuple | list) else out)
        return torch.zeros(())


class _End(nn.Module):
    """Reads the stream; a layer by its parameter, of no size."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.empty(0))

    def forward(self, stream: Tensor) -> Tensor:
        """What it is given."""
        return stream
