"""What a trace knows of a tensor: its axes, and where it may not be zero although what is removed is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from secateurs.graph.axes import Axis, Node, leaves
from secateurs.graph.tensors import ByTensor, memory


@dataclass(frozen=True, slots=True)
class Label:
    """What the trace knows of a tensor.

    Args:
        axes: One axis for each tensor dimension.
        dirty: Leaves whose removed positions may hold something other than zero here, once the removed entries of every
            parameter are zero. A sum over such a leaf would see the difference.
        fixed: Whether it follows from parameters and constants alone, whatever the inputs.
    """

    axes: tuple[Axis, ...]
    dirty: frozenset[Node] = frozenset()
    fixed: bool = False

    def dirty_leaves(self) -> frozenset[Node]:
        """The dirty leaves as they are now, after the refinements since."""
        return frozenset(leaves(self.dirty)) if self.dirty else self.dirty

    def carried(self) -> frozenset[Node]:
        """All leaves of all axes."""
        return frozenset(leaves(*self.axes))


class Labels(ByTensor[Label]):
    """The label of each tensor."""

    __slots__ = ("_sharing",)

    def __init__(self) -> None:
        super().__init__()
        self._sharing: dict[int, ByTensor[None]] = {}

    def __setitem__(self, tensor: Tensor, label: Label) -> None:
        super().__setitem__(tensor, label)
        self._sharing.setdefault(memory(tensor), ByTensor())[tensor] = None

    def written(self, out: Tensor) -> None:
        """After a write in place, nothing is known of the zeros in the other tensors that share its memory."""
        fixed = (mine := self.get(out)) is not None and mine.fixed
        for tensor, _ in self._sharing[memory(out)].items():
            label = self.get(tensor)
            if tensor is not out and label is not None:
                super().__setitem__(tensor, Label(label.axes, label.carried(), label.fixed and fixed))
