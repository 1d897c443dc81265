"""The list of `coverage.py`: small networks of every family that people use, by name.

Sizes are small and distinct, so that a size that is mistaken for another shows. Whatever a module of this package calls
``NETWORKS`` is on the list; a library that is not installed leaves out its own with a line that says so.
"""

from __future__ import annotations

from architectures import (
    audio,
    convolutional,
    decoders,
    dense,
    elsewhere,
    encoders,
    multimodal,
    perceptrons,
    recurrent,
    sequences,
    vision,
)
from architectures.kinds import Architecture

ARCHITECTURES: dict[str, Architecture] = {
    **encoders.NETWORKS,
    **decoders.NETWORKS,
    **sequences.NETWORKS,
    **vision.NETWORKS,
    **dense.NETWORKS,
    **audio.NETWORKS,
    **multimodal.NETWORKS,
    **perceptrons.NETWORKS,
    **convolutional.NETWORKS,
    **recurrent.NETWORKS,
    **elsewhere.NETWORKS,
}


def build(name: str) -> object:
    """A network of the list, for whoever loads an artifact of it."""
    return ARCHITECTURES[name].build()
