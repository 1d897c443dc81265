"""What a write in place leaves known of the tensors that share the memory."""

from __future__ import annotations

import torch

from secateurs.graph.axes import Node
from secateurs.graph.labels import Label, Labels


def test_after_a_write_nothing_is_known_of_the_zeros_of_who_shares_the_memory() -> None:
    x, other, node = torch.ones(3), torch.ones(3), Node(3)
    view, labels = x[:], Labels()
    for tensor in (x, view, other):
        labels[tensor] = Label(((node,),), fixed=True)
    labels[x] = Label(((node,),), fixed=False)
    labels.written(x)
    assert labels.get(x) == Label(((node,),))
    assert labels.get(view) == Label(((node,),), frozenset({node}))
    assert labels.get(other) == Label(((node,),), fixed=True)


def test_a_label_follows_refinements() -> None:
    node = Node(6)
    label = Label(((node,),), frozenset({node}))
    node.parts = [(Node(2),), (Node(4),)]
    assert label.dirty_leaves() == label.carried()
    assert len(label.carried()) == 2
