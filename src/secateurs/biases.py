"""Biases for layers that have none, where a recovery is to put what the removed inputs gave on average."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from torch import nn

from secateurs.graph import Graph
from secateurs.repair import Biased
from secateurs.types import Group, Member


def lacking(model: nn.Module, groups: Sequence[Group]) -> tuple[Biased, ...]:
    """The layers that may lose inputs, keep all of their outputs, and could have a bias but have none.

    A layer says that it could have one by a parameter ``bias`` that is None, as torch's own do.

    Args:
        model: The dense network.
        groups: What can go.
    """
    members = [member for group in groups if group.dims for member in group.members]
    narrowed = {(member.tensor, axis) for member in members if not member.reads for axis in member.dims}
    found = (it for member in members if member.reads and member.dims for it in _lacking(model, member))
    return tuple(dict.fromkeys(it for it, weight, axis in found if (weight, axis) not in narrowed))


def _lacking(model: nn.Module, member: Member) -> Iterator[tuple[Biased, str, int]]:
    """The bias that the layer of a member lacks, its weight, and the axis of the outputs."""
    path, _, leaf = member.tensor.rpartition(".")
    module = model.get_submodule(path)
    weight = module._parameters.get(leaf)
    if leaf == "weight" and weight is not None and weight.dim() == 2 and module._parameters.get("bias", 0) is None:
        axis = 1 - member.dims[0]
        yield Biased(path, weight.shape[axis]), member.tensor, axis


def known(network: Graph, added: Iterable[Biased]) -> Graph:
    """The trace of a network after these biases were added: each runs along the outputs of its weight."""
    tensors = dict(network.tensors)
    for it in added:
        weight = next(weight for weight in network.weights if weight.name == f"{it.module}.weight")
        tensors[f"{it.module}.bias"] = (tensors[weight.name][weight.outputs[0]],)
    return replace(network, tensors=tensors, trainable=network.trainable | (tensors.keys() - network.tensors.keys()))
