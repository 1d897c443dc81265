"""Why a dim cannot shrink, in words for whoever wants to know what to do about it."""

from __future__ import annotations

import re

_WORDS: tuple[tuple[str, str], ...] = (
    ("an input of the model", "whoever calls the network gives tensors of this size"),
    ("an output of the model", "whoever calls the network is given tensors of this size"),
    ("a kernel position", "it says where in a window a weight stands, not which feature it is"),
    ("a spatial position", "it is a place in the image or signal, as many as the input has"),
    ("a position of the sequence", "it is a place in the text or signal, as many as the input has"),
    ("a space to work in", "an operator keeps notes of its own there"),
    ("a padding of constant width", "the code adds a fixed number of positions to it"),
    ("a constant width of it is cut off", "the code takes a fixed number of positions away from it"),
    ("a statistic is taken over it", "a mean, a variance or a maximum would be another with fewer positions"),
    ("all of its positions are picked", "as many must stay as the code asks for; lower that number in the config"),
    ("the scale of the attention follows its size", "scores are divided by its root, unless the code gives the scale"),
    ("its positions are picked by data", "numbers in the input or in a table say which position is read"),
    ("one of its positions is picked by number", "the code names a position, which must stay where it is"),
    ("its positions are counted", "the count enters the result"),
    (
        "its values are made in the forward pass",
        "the code makes numbers of this size from an integer, and would make others were it smaller; a recipe with "
        "`rewrite: true` may pick those that stay",
    ),
    ("its positions are the parts of complex numbers", "a real and an imaginary part, which belong together"),
    ("its positions are (taken apart|told apart|stacked)", "each has a meaning of its own"),
    ("sequences are packed by their lengths", "how long each sequence is says where things lie"),
    ("a system is solved along it", "every position of it enters all of the answer"),
    ("data decide", "what takes part depends on the input"),
    (".* has no rule", "the tracer does not know this operator, so it changes nothing that goes through it"),
    (".*groups cut across it", "the groups of the operator do not fall together with the parts that it is made of"),
    (".*cuts (across )?it", "a new shape divides it elsewhere than where it is put together"),
    (".* in two arrangements", "the same positions are met in two orders, and one plan cannot fit both"),
    (".*where its entries are not zero", "what is removed would still add to the result"),
    (".*is undefined where its entries are zero", "a removed position would be divided by, or its logarithm taken"),
    (".*(reorders|rearranges) its positions", "what stands where afterwards depends on how many there are"),
    (".*tells its positions apart", "each has a meaning of its own"),
    ("no parameter carries it", "there is no weight that would get smaller"),
    ("integers index it", "a table of whole numbers carries it, such as position numbers"),
    ("no operator that can shrink it reads it", "the traced inputs do not reach it"),
    ("the example inputs (do not )?reach", "nothing would prove what becomes of it; give inputs with more positions"),
    ("two dims number the same modules", "what one of them lost the other would lose too"),
    ("it multiplies itself along one axis", "one axis holds every pair of its positions"),
    ("its positions are the numbers of an affine map", "each has a meaning of its own"),
    ("random numbers are drawn for its positions", "with fewer positions other numbers would be drawn"),
    (r"aten\.", "what the operator does depends on its positions in a way that is not followed"),
    ("Python holds its size out of reach", "the code keeps its size where a repair did not find it"),
)


def explained(reason: str) -> str:
    """A reason, with what it means where that is known.

    Args:
        reason: As ``Dim.frozen`` has it.
    """
    for begins, words in _WORDS:
        if re.match(begins, reason):
            return f"{reason}: {words}"
    return reason
