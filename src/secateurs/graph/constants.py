"""Numbers that the code makes from nothing: counting, literals, and what is computed of them alone.

Slopes of a position bias, one for each head, are such numbers. However the code divides and joins them: where they meet
other tensors, each of their positions stands for itself, there and nowhere else. The code would make other numbers were
there fewer, so their axes are frozen; where the network is rewritten as its operators, those that stay are picked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from secateurs.graph.axes import Axis
from secateurs.graph.tensors import ByTensor, memory

MADE = "its values are made in the forward pass"


@dataclass
class Constants:
    """The tensors that are made from nothing, as a forward pass goes on.

    Args:
        pickable: Whether positions of them can be picked where they are used.
        sized: Whether the inputs decide how many numbers are made now: those are not made from nothing then.
        differ: Tensor -> whether it has positions that differ; if not it is a single number. None: no longer made from
            nothing.
        uses: Where they can be picked and met others: the tensor, and the axes that it has there.
    """

    pickable: bool = False
    sized: bool = False
    differ: ByTensor[bool | None] = field(default_factory=ByTensor)
    uses: list[tuple[Tensor, tuple[Axis, ...]]] = field(default_factory=list)

    def note(self, tensor: Tensor, differs: bool) -> None:
        """It is made from nothing. One value everywhere needs no note: it may be of any size."""
        if differs or not tensor.dim():
            self.differ[tensor] = differs

    def of(self, tensor: Tensor) -> bool | None:
        """Whether the positions of a tensor that is made from nothing differ; None: it is not."""
        return self.differ.get(tensor)

    def written(self, out: Tensor) -> None:
        """Something else was written into a tensor, and so into all that share its memory."""
        for tensor, _ in self.differ.items():
            if memory(tensor) == memory(out):
                self.differ[tensor] = None
